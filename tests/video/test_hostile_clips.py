"""Clips made to crash, hang or rob the server."""

import os
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import av
import numpy as np
import pytest

from rtdetr_demo.errors import BadInput, Cancelled
from rtdetr_demo.predictions import Predictions, Timing
from rtdetr_demo.video import runner
from rtdetr_demo.video.options import FILES, Limits, Options
from rtdetr_demo.video.runner import FrameDetector, process
from tests.support.clips import look, make_clip

BLANK = Predictions(
    "", ("dog",), 160, 120, np.zeros((1, 1)), np.zeros((1, 1), int), np.zeros((1, 1), int),
    np.zeros((1, 1, 4)), Timing(0, 0, 0),
)  # fmt: skip

NOTHING = FrameDetector(("dog",), lambda images: [BLANK] * len(images))


def test_sound_of_an_unknown_codec_is_no_sound(tmp_path):
    source = make_clip(tmp_path / "clip.mov", frames=5, sound="pcm_s16le")
    content = source.read_bytes()
    assert content.count(b"sowt") == 1
    source.write_bytes(content.replace(b"sowt", b"zzzz"))
    assert process(source, tmp_path, NOTHING, Options()).frames == 5
    assert look(tmp_path / "annotated.mp4")["sound"] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("list.mkv", "ffconcat version 1.0\nfile {clip}\n"),
        ("endless.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x\n"),
    ],
)
def test_a_playlist_is_no_video_and_reads_nothing(tmp_path, name, content):
    secret = make_clip(tmp_path / "secret.mp4", frames=5, sound=None)
    source = tmp_path / name
    source.write_text(content.format(clip=secret))
    began = time.monotonic()
    with pytest.raises(BadInput, match="video format is not supported"):
        process(source, tmp_path, NOTHING, Options())
    assert time.monotonic() - began < 30
    assert not any((tmp_path / one).exists() for one in FILES)


@pytest.fixture
def pipe(tmp_path: Path):
    """A file that never gives a byte: whoever opens it as a clip waits for ever."""
    path = tmp_path / "clip.mp4"
    os.mkfifo(path)
    yield path
    path.unlink()


@pytest.mark.load
@pytest.mark.skipif(os.name == "nt", reason="named pipes are files on Unix only")
def test_a_decoder_that_hangs_ends_with_its_job_by_cancel_or_by_itself(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "CANCEL_SECONDS", 0.5)
    monkeypatch.setattr(runner, "SILENT_SECONDS", 3.0)
    with pytest.raises(BadInput, match="makes its decoder hang"):
        process(pipe, tmp_path, NOTHING, Options())
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        process(pipe, tmp_path, NOTHING, Options(), stop=stop)
    with pytest.raises(Cancelled):
        process(pipe, tmp_path, NOTHING, Options(), limits=Limits(work_seconds=0.1))


def test_a_decoder_that_crashes_ends_its_job_alone(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", frames=50, sound=None)

    others = set(active_children())

    def kill_child(images):
        [child] = set(active_children()) - others
        os.kill(child.pid, 11)
        return [BLANK] * len(images)

    with pytest.raises(BadInput, match="crashed its decoder"):
        process(source, tmp_path, FrameDetector(("dog",), kill_child), Options())
    assert not any((tmp_path / one).exists() for one in FILES)


def test_work_past_its_limit_ends_with_what_is_done(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", frames=200, size=(64, 48), sound=None)

    def slow(images):
        time.sleep(0.05)
        return [BLANK] * len(images)

    detector = FrameDetector(("dog",), slow)
    summary = process(source, tmp_path, detector, Options(), limits=Limits(work_seconds=2))
    assert summary.cancelled
    assert len(look(tmp_path / "annotated.mp4")["times"]) == summary.frames < 200


def test_sound_of_192_khz_is_kept(tmp_path):
    source = tmp_path / "loud.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height = 64, 48
        tone = container.add_stream("pcm_s16le", rate=192000)
        for _ in range(20):
            picture = np.zeros((48, 64, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(video.encode(None))
        wave = (np.sin(np.arange(2 * 192000) / 20) * 9000).astype(np.int16)
        for at in range(0, len(wave), 9600):
            stereo = np.repeat(wave[at : at + 9600], 2)[None]
            heard = av.AudioFrame.from_ndarray(stereo, "s16", "stereo")
            heard.sample_rate, heard.pts = 192000, at
            container.mux(tone.encode(heard))
        container.mux(tone.encode(None))
    process(source, tmp_path, NOTHING, Options())
    seen = look(tmp_path / "annotated.mp4")
    assert seen["sound"] == ["aac"]
    assert seen["seconds_of_sound"] == pytest.approx(2, abs=0.1)


def test_a_clip_whose_clock_begins_late_begins_at_zero(tmp_path):
    late = [36000 + number for number in range(10)]  # an hour
    source = make_clip(tmp_path / "late.mkv", frames=10, times=late, sound=None)
    with av.open(str(source)) as container:
        assert container.streams.video[0].start_time > 0
    process(source, tmp_path, NOTHING, Options(), limits=Limits(seconds=5000))
    seen = look(tmp_path / "annotated.mp4")["times"]
    assert seen == pytest.approx([number / 10 for number in range(10)], abs=0.01)
