"""A clip in; a tracked, annotated clip out."""

import csv
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from rtdetr_demo.__main__ import main
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import BadInput, DiskFull, TooLarge
from rtdetr_demo.predictions import Detection, Predictions, Timing
from rtdetr_demo.video.io import Frame, Reader, Writer
from rtdetr_demo.video.options import Limits, Options, Progress
from rtdetr_demo.video.pipeline import _Tables, annotate_clip
from rtdetr_demo.video.runner import process, with_detector
from rtdetr_demo.video.tracking import Tracked, Tracker
from tests.support.clips import look, make_clip
from tests.support.paths import REPO


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads of PyTorch wait for one another on a machine that has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def detector(tiny: Path) -> Detector:
    return Detector.load("tiny", tiny)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def test_the_output_plays_in_browsers_and_keeps_frames_timing_and_sound(clip, detector, tmp_path):
    summary = process(clip, tmp_path, detector, Options(threshold=0.7))
    before, after = look(clip), look(tmp_path / "annotated.mp4")
    assert summary.frames == 20
    assert (after["codec"], after["pixels"], after["sound"]) == ("h264", "yuv420p", ["aac"])
    assert after["times"] == pytest.approx(before["times"], abs=0.001)
    assert after["seconds_of_sound"] == pytest.approx(before["seconds_of_sound"], abs=0.05)
    assert after["size"] == (160, 120)
    head = (tmp_path / "annotated.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # it plays while it loads


def test_the_output_shows_the_boxes(clip, detector, tmp_path):
    process(clip, tmp_path, detector, Options(threshold=0.7))
    with av.open(str(clip)) as plain, av.open(str(tmp_path / "annotated.mp4")) as drawn:
        for before, after in zip(plain.decode(video=0), drawn.decode(video=0), strict=True):
            change = np.abs(
                before.to_ndarray(format="rgb24").astype(int)
                - after.to_ndarray(format="rgb24").astype(int)
            )
            assert (change > 60).mean() > 0.01


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.mov", "libx264", "aac"),
        ("a.webm", "libvpx", "libopus"),
        ("a.avi", "mpeg4", "mp3"),
        ("a.mkv", "libx264", "flac"),
        ("silent.mp4", "libx264", None),
    ],
)
def test_every_usual_container_is_read(detector, tmp_path, name, codec, sound):
    source = make_clip(tmp_path / name, codec=codec, sound=sound)
    out = tmp_path / "out"
    out.mkdir()
    assert process(source, out, detector, Options(threshold=0.7)).frames == 20
    seen = look(out / "annotated.mp4")
    assert len(seen["times"]) == 20
    assert len(seen["sound"]) == (sound is not None)
    if sound:
        assert seen["seconds_of_sound"] == pytest.approx(2, abs=0.15)


def test_a_variable_frame_rate_keeps_its_timing(detector, tmp_path):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 50, 90]
    source = make_clip(tmp_path / "v.mp4", frames=10, times=times, sound=None)
    process(source, tmp_path, detector, Options(threshold=0.7))
    seen = look(tmp_path / "annotated.mp4")["times"]
    assert seen == pytest.approx([t / 10 for t in times], abs=0.001)


def test_rotation_and_odd_sizes_are_handled(detector, tmp_path):
    source = make_clip(tmp_path / "odd.avi", size=(161, 121), codec="ffv1", sound=None)
    process(source, tmp_path, detector, Options(threshold=0.7))
    assert look(tmp_path / "annotated.mp4")["size"] == (160, 120)


def test_a_picture_of_a_turned_phone_comes_out_upright(tmp_path, clip, monkeypatch):
    real = av.VideoFrame.from_ndarray
    with Reader(clip) as reader:
        plain = next(item for item in reader if hasattr(item, "pixels")).pixels
    monkeypatch.setattr(Reader, "_turns", staticmethod(lambda frame: 1))
    with Reader(clip) as reader:
        turned = next(item for item in reader if hasattr(item, "pixels")).pixels
    assert turned.shape == (160, 120, 3)
    assert (turned == np.rot90(plain, 1)).all()
    assert real is av.VideoFrame.from_ndarray


def test_detections_are_written_per_frame(clip, detector, tmp_path):
    process(clip, tmp_path, detector, Options(threshold=0.6, decoder_layers=2))
    lines = [json.loads(line) for line in (tmp_path / "detections.jsonl").open()]
    assert [line["frame"] for line in lines] == list(range(20))
    assert lines[7]["time"] == pytest.approx(0.7)
    with (tmp_path / "detections.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == sum(len(line["detections"]) for line in lines) > 0
    assert {"id", "label", "score", "box"} == set(lines[0]["detections"][0])


def test_a_label_in_the_table_is_no_formula(tmp_path):
    detection = Detection("=1+1", 0, 0.9, 0, 0, 5, 5)
    frame = Frame(0, 0, 0.0, np.zeros((4, 4, 3), np.uint8))
    with _Tables(tmp_path) as tables:
        tables.add(frame, [Tracked(1, detection)])
    with (tmp_path / "detections.csv").open() as table:
        assert [row["label"] for row in csv.DictReader(table)] == ["'=1+1"]


def test_a_stride_detects_in_every_nth_frame_and_writes_them_all(clip, tmp_path, tiny):
    detector = Detector.load("tiny", tiny)
    runs, real = [], detector.detect_batch
    detector.detect_batch = lambda *a, **k: runs.append(a) or real(*a, **k)  # type: ignore[method-assign]
    assert process(clip, tmp_path, detector, Options(threshold=0.7, stride=5)).frames == 20
    assert len(runs) == 4
    assert len((tmp_path / "detections.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("stride", [1, 3])
def test_a_card_gets_frames_in_batches_and_gives_the_same(clip, tmp_path, tiny, stride):
    detector = Detector.load("tiny", tiny, torch.device("cpu"))
    options = Options(threshold=0.7, stride=stride)
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir(), many.mkdir()
    process(clip, one, detector, options)
    sizes, real = [], detector.detect_batch
    detector.detect_batch = (  # type: ignore[method-assign]
        lambda images, *a, **k: sizes.append(len(images)) or real(images, *a, **k)
    )
    card = dataclasses.replace(with_detector(detector, options), batch=8)
    assert process(clip, many, card, options).frames == 20
    assert sizes == ([8, 8, 4] if stride == 1 else [7])
    lines = [
        [json.loads(line) for line in (folder / "detections.jsonl").open()]
        for folder in (one, many)
    ]
    assert [line["frame"] for line in lines[0]] == [line["frame"] for line in lines[1]]
    for alone, together in zip(*lines, strict=True):
        assert len(alone["detections"]) == len(together["detections"])
    assert look(one / "annotated.mp4")["times"] == look(many / "annotated.mp4")["times"]


def test_the_output_can_be_made_smaller(clip, detector, tmp_path):
    process(clip, tmp_path, detector, Options(threshold=0.7, longest=80))
    assert look(tmp_path / "annotated.mp4")["size"] == (80, 60)


def moving(number: int) -> list[Detection]:
    """Two people who walk towards each other, and a car at rest."""
    return [
        Detection("person", 0, 0.9, 10 + 4 * number, 50, 50 + 4 * number, 150),
        Detection("person", 0, 0.8, 300 - 4 * number, 200, 340 - 4 * number, 300),
        Detection("car", 1, 0.7, 400, 60, 500, 120),
    ]


def test_tracks_keep_their_numbers_through_a_gap():
    tracks, numbers = Tracker(rate=10), []
    for number in range(30):
        found = moving(number)
        if 10 <= number < 13:
            found = found[1:]  # the first person is hidden for three frames
        numbers.append({one.found[3:]: one.id for one in tracks.update(found)})
        assert len(numbers[-1]) == len(found)
    first, last = moving(0), moving(29)
    for before, after in zip(first, last, strict=True):
        assert numbers[0][before[3:]] == numbers[29][after[3:]]
    assert len({number for frame in numbers for number in frame.values()}) == 3


def test_seconds_count_tracks_and_a_line_counts_crossings(clip, tmp_path, tiny, monkeypatch):
    class Walks(Detector):
        def detect_batch(self, images, *arguments, **shape):
            [predictions] = super().detect_batch(images, *arguments, **shape)
            y = 5 * next(steps)
            predictions.scores[:] = 0
            predictions.scores[:, 0] = 0.9
            predictions.labels[:, 0] = 0
            predictions.boxes[:, 0] = [20, y, 60, y + 20]
            return [predictions]

    steps = iter(range(100))
    summary = process(clip, tmp_path, Walks.load("walks", tiny), Options(line=0.5))
    assert summary.seen == [{"person": 1}, {"person": 1}]
    assert summary.crossed_down + summary.crossed_up == 1


def test_progress_is_told_with_a_preview(clip, detector, tmp_path):
    told: list[Progress] = []
    process(
        clip, tmp_path, detector, Options(threshold=0.7), lambda p: told.append(Progress(**vars(p)))
    )
    assert (told[-1].done, told[-1].total) == (20, 20)
    assert told[0].preview is not None
    assert told[0].fps > 0


@pytest.mark.alone
def test_cancel_stops_within_a_second_and_leaves_a_playable_file(detector, tmp_path):
    source = make_clip(tmp_path / "long.mp4", frames=3000, size=(64, 48), sound=None)
    stop = threading.Event()
    began: list[float] = []

    def cancel(progress: Progress) -> None:
        if progress.done > 3 and not stop.is_set():
            stop.set()
            began.append(time.monotonic())

    summary = process(source, tmp_path, detector, Options(threshold=0.7), cancel, stop)
    assert time.monotonic() - began[0] < 1
    assert summary.cancelled
    assert 3 < summary.frames < 3000
    assert len(look(tmp_path / "annotated.mp4")["times"]) == summary.frames


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "video format is not supported"),
        (b"I am text.", "video format is not supported"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\7" * 500, "video format is not supported"),
    ],
)
def test_a_hostile_file_is_a_sentence(tmp_path, detector, content, words):
    source = tmp_path / "clip.mp4"
    source.write_bytes(content)
    with pytest.raises(BadInput, match=words) as refusal:
        process(source, tmp_path, detector, Options(threshold=0.7))
    assert str(tmp_path) not in str(refusal.value)


def test_a_file_with_sound_alone_is_a_sentence(tmp_path, detector):
    source = tmp_path / "sound.mp4"
    with av.open(str(source), "w") as container:
        tone = container.add_stream("aac", rate=48000)
        silence = np.zeros((1, 1024), dtype=np.float32)
        heard = av.AudioFrame.from_ndarray(silence, "fltp", "mono")
        heard.sample_rate = 48000
        container.mux(tone.encode(heard))
        container.mux(tone.encode(None))
    with pytest.raises(BadInput, match="no video stream"):
        process(source, tmp_path, detector, Options(threshold=0.7))


def test_a_clip_cut_off_half_way_gives_what_came_before(tmp_path, detector):
    source = make_clip(tmp_path / "cut.mkv", frames=60, sound=None)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    summary = process(source, tmp_path, detector, Options(threshold=0.7))
    assert 0 < summary.frames < 60
    assert len(look(tmp_path / "annotated.mp4")["times"]) == summary.frames


def test_past_the_limits_a_clip_is_refused_before_any_work(clip, tmp_path, detector):
    with pytest.raises(TooLarge, match="longer than"):
        process(clip, tmp_path, detector, Options(threshold=0.7), limits=Limits(seconds=1))
    with pytest.raises(TooLarge, match="160 x 120"):
        process(clip, tmp_path, detector, Options(threshold=0.7), limits=Limits(pixels=1000))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("frames", [1, 20])
def test_a_full_disk_is_a_sentence_and_nothing_is_written_after_it(clip, frames):
    with Reader(clip) as reader:
        writer = Writer(Path("/dev/full"), reader)
        pictures = [item for item in reader if isinstance(item, Frame)][:frames]

        def write() -> None:
            try:
                for picture in 100 * pictures:
                    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
                    writer.picture(dataclasses.replace(picture, pixels=noise))
            finally:
                writer.close()

        with pytest.raises(DiskFull, match="disk is full"):
            write()


def test_tables_that_find_no_room_are_a_sentence_and_leave_no_files(clip, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rtdetr_demo.video.pipeline._Tables.add", full)
    nothing = Predictions(
        "", ("dog",), 160, 120, np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)),
        np.zeros((1, 1, 4)), Timing(0, 0, 0),
    )  # fmt: skip
    with pytest.raises(DiskFull, match="disk is full"):
        annotate_clip(
            clip, tmp_path, ("dog",), lambda frames: [nothing] * len(frames), 1, Options(),
            lambda _: None, threading.Event(), Limits(),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(threshold=2), "threshold"), (Options(stride=0), "stride"),
        (Options(longest=1), "longest side"), (Options(line=2), "line"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_a_sentence(clip, tmp_path, detector, options, words):
    with pytest.raises(BadInput, match=words):
        process(clip, tmp_path, detector, options)


def test_the_command_does_the_same(clip, tmp_path, tiny, capsys):
    out = tmp_path / "made"
    arguments = ["--checkpoint", str(tiny), "--layers", "2", "--line", "0.5", "--threshold", "0.8"]
    arguments += ["--runtime", "torch"]
    assert main(["video", str(clip), str(out), *arguments]) == 0
    assert "20 frames written" in capsys.readouterr().out
    assert len(look(out / "annotated.mp4")["times"]) == 20
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["video", "no-such.mp4", str(out), *arguments]) == 1
    assert "is not there" in capsys.readouterr().err
    letter = tmp_path / "letter.mp4"
    letter.write_text("no video")
    assert main(["video", str(letter), str(out), *arguments]) == 1
    assert "video format is not supported" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert main(["video", str(letter), str(tmp_path / "new" / "out.mp4"), *arguments]) == 1
    assert not (tmp_path / "new").exists()


def test_an_out_that_ends_like_a_clip_is_one_and_never_the_source(clip, tmp_path, tiny, capsys):
    out = tmp_path / "made" / "out.mp4"
    arguments = ["--checkpoint", str(tiny), "--layers", "1", "--threshold", "0.8"]
    arguments += ["--runtime", "torch"]
    assert main(["video", str(clip), str(out), *arguments]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.csv", "out.jsonl", "out.mp4"]
    assert len(look(out)["times"]) == 20
    assert main(["video", str(out), str(out), *arguments]) == 1
    assert "OUT is IN" in capsys.readouterr().err
    assert main(["video", str(clip), str(out.with_suffix(".avi")), *arguments]) == 1
    assert "name it out.mp4" in capsys.readouterr().err


@pytest.mark.load
def test_ctrl_c_keeps_what_is_done_and_it_plays(tmp_path, tiny):
    source = make_clip(tmp_path / "long.mp4", frames=2000, size=(64, 48), sound=None)
    command = ["video", str(source), str(tmp_path / "out.mp4"), "--checkpoint", str(tiny)]
    process = subprocess.Popen(
        [sys.executable, "-m", "rtdetr_demo", *command, "--threshold", "0.8", "--runtime", "torch"],
        cwd=REPO, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    process.stdout.read(1)  # progress begins
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the children as well
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    frames = len(look(tmp_path / "out.mp4")["times"])
    assert f"Stopped: {frames} frames written" in output.decode()
    assert 0 < frames < 2000
