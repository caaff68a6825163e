"""Sound of the annotated clip starts, pauses and ends where the source's does."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.clips import annotate, ffmpeg, probe

RATE = 48000
FRAME = 0.04

CODECS = [
    ("webm", "libopus"),
    ("webm", "libvorbis"),
    ("avi", "pcm_s16le"),
    ("mkv", "pcm_s16le"),
    ("mkv", "flac"),
    ("mkv", "ac3"),
    ("mkv", "eac3"),
    ("mov", "pcm_s16be"),
    ("mp4", "libopus"),
    ("mp4", "aac"),
    ("mkv", "libmp3lame"),
]

VIDEO = {"webm": ["-c:v", "libvpx", "-b:v", "200k"], "avi": ["-c:v", "mpeg4"]}


def clip(path: Path, codec: str, *sound: str, filters: str = "anull", rate: int = RATE) -> Path:
    """Two seconds of picture, with the sound that the inputs `sound` and a filter give."""
    video = VIDEO.get(path.suffix[1:], ["-c:v", "libx264", "-preset", "ultrafast"])
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=2", *sound, "-map", "0:v",
        "-map", "1:a", "-af", filters, "-ar", str(rate), *video, "-c:a", codec,
        "-strict", "-2", path,
    )  # fmt: skip
    return path


def tone(seconds: float, delay: float = 0.0) -> list[str]:
    return [
        "-itsoffset", str(delay), "-f", "lavfi", "-i",
        f"sine=frequency=880:duration={seconds}:sample_rate={RATE}",
    ]  # fmt: skip


def loud_spans(path: Path, track: str = "0:a:0") -> list[tuple[float, float]]:
    """From when to when there is sound, in seconds of the clip, as ffmpeg plays it."""
    command = [
        "ffmpeg", "-v", "error", "-copyts", "-i", str(path), "-map", track, "-af",
        "aresample=async=1:min_hard_comp=0.005:first_pts=0", "-ac", "1", "-ar", "8000",
        "-f", "f32le", "-",
    ]  # fmt: skip
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    wave = np.frombuffer(raw, np.float32)
    level = np.abs(wave[: len(wave) // 40 * 40]).reshape(-1, 40).max(1)  # 5 ms
    loud = np.concatenate([[False], level > 0.02, [False]])
    edges = np.flatnonzero(loud[1:] != loud[:-1]) * 0.005
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def check_same_spans(result: Path, source: Path, count: int) -> None:
    before, after = loud_spans(source), loud_spans(result)
    assert len(before) == count
    assert np.array(after) == pytest.approx(np.array(before), abs=FRAME)


@pytest.mark.parametrize(("ending", "codec"), CODECS)
def test_sound_that_starts_late_starts_as_late(ending, codec, tmp_path):
    source = clip(tmp_path / f"late.{ending}", codec, *tone(1.2, delay=0.8))
    result, _ = annotate(source, tmp_path / "out")
    check_same_spans(result, source, count=1)


@pytest.mark.parametrize(("ending", "codec"), CODECS)
def test_a_hole_in_the_timestamps_stays_as_long(ending, codec, tmp_path):
    whole = clip(tmp_path / f"whole.{ending}", codec, *tone(2))
    source = tmp_path / f"hole.{ending}"
    drop = "noise=drop=between(pts*tb\\,0.6\\,1.1)"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:a", drop, source)
    result, _ = annotate(source, tmp_path / "out")
    check_same_spans(result, source, count=len(loud_spans(source)))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_the_length_is_the_sources_at_every_sample_rate(rate, tmp_path):
    source = clip(tmp_path / "rate.mkv", "flac", *tone(1.5, delay=0.2), rate=rate)
    result, _ = annotate(source, tmp_path / "out")
    check_same_spans(result, source, count=1)


def test_the_start_that_a_player_reads_is_the_sources(tmp_path):
    source = clip(tmp_path / "late.webm", "libopus", *tone(1.2, delay=0.8))
    result, _ = annotate(source, tmp_path / "out")
    before, after = (
        float(probe(path, "a:0", "start_time")["start_time"]) for path in (source, result)
    )
    assert before > 0.7
    assert after == pytest.approx(before, abs=FRAME)


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "flac"), ("mkv", "aac"), ("mp4", "aac")])
def test_of_several_tracks_the_default_one_is_kept(ending, codec, tmp_path):
    source = tmp_path / f"tracks.{ending}"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1",
        "-f", "lavfi", "-i", "sine=frequency=300:duration=1",
        "-f", "lavfi", "-i", "sine=frequency=1500:duration=1",
        "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-c:a", codec,
        "-disposition:a:0", "0", "-disposition:a:1", "default", source,
    )  # fmt: skip
    result, _ = annotate(source, tmp_path / "out")
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", result, "-map", "0:a", "-ac", "1", "-ar", "8000",
         "-f", "f32le", "-"], check=True, capture_output=True,
    ).stdout  # fmt: skip
    spectrum = np.abs(np.fft.rfft(np.frombuffer(raw, np.float32)[:8000]))
    assert spectrum.argmax() == pytest.approx(1500, abs=5)


def test_timestamps_far_out_do_not_fill_the_disk_with_silence(tmp_path):
    whole = clip(tmp_path / "whole.mkv", "flac", *tone(2))
    source = tmp_path / "jump.mkv"
    jump = "setts=ts=if(gt(N\\,10)\\,TS+90000000\\,TS)"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:a", jump, "-live", "1", source)
    result, _ = annotate(source, tmp_path / "out")
    assert result.stat().st_size < 2**20
