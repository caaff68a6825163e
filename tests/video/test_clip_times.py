"""Shape, times, number and rate of frames are the source's, as ffmpeg reports them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtdetr_demo.video.io import Frame, Reader
from tests.support.clips import annotate, decoded, ffmpeg, frame_times, probe


def clip(path: Path, *options: str, size: str = "64x48", rate: str = "25") -> Path:
    source = f"testsrc=size={size}:rate={rate}:duration=2"
    ffmpeg("-f", "lavfi", "-i", source, *options, path)
    return path


H264_B = ["-c:v", "libx264", "-bf", "3"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b.avi", H264_B),
        ("b-pyramid.avi", [*H264_B, "-x264-params", "b-pyramid=normal:keyint=10"]),
        ("asp.avi", ["-c:v", "mpeg4", "-bf", "2"]),
        ("plain.avi", ["-c:v", "mpeg4"]),
        ("mjpeg.avi", ["-c:v", "mjpeg"]),
        ("b.mkv", H264_B),
        ("b.mp4", H264_B),
        ("b.mov", H264_B),
        ("no-edit-list.mp4", [*H264_B, "-use_editlist", "0"]),
        ("asp.mkv", ["-c:v", "mpeg4", "-bf", "2"]),
        ("vp9.webm", ["-c:v", "libvpx-vp9", "-b:v", "100k"]),
        ("hevc.mp4", ["-c:v", "libx265", "-bf", "3", "-x265-params", "log-level=none"]),
    ],
)
def test_frames_are_shown_at_the_times_that_ffmpeg_reports(name, options, tmp_path):
    source = clip(tmp_path / name, *options)
    result, _ = annotate(source, tmp_path / "out")
    before, after = frame_times(source), frame_times(result)
    start = float(probe(source, "v:0", "start_time").get("start_time", 0))
    assert len(after) == 50
    assert after == pytest.approx([time - start for time in before], abs=0.002)


@pytest.mark.parametrize("rate", ["25", "30000/1001", "24000/1001", "12", "50"])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_count_and_rate_of_frames_are_the_sources(rate, ending, tmp_path):
    source = clip(tmp_path / f"source.{ending}", *H264_B, rate=rate)
    result, _ = annotate(source, tmp_path / "out")
    assert len(frame_times(result)) == len(frame_times(source))
    before, after = (
        Fraction(probe(path, "v:0", "avg_frame_rate")["avg_frame_rate"])
        for path in (source, result)
    )
    assert float(after) == pytest.approx(float(before), rel=0.001)


def test_frames_without_timestamps_follow_one_another_at_the_clips_rate(tmp_path):
    source = clip(tmp_path / "plain.avi", "-c:v", "mjpeg")
    bare = tmp_path / "bare.avi"
    ffmpeg("-i", source, "-c", "copy", "-fflags", "+bitexact", bare)
    with Reader(bare) as reader:
        times = [item.time for item in reader if isinstance(item, Frame)]
    assert times == pytest.approx([i / 25 for i in range(50)])


def test_picture_that_starts_after_the_sound_stays_behind_it(tmp_path):
    source = tmp_path / "late.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "sine=duration=2", "-itsoffset", "0.6", "-f", "lavfi", "-i",
        "testsrc=size=64x48:rate=25:duration=1", "-map", "1:v", "-map", "0:a", "-c:v",
        "libx264", "-c:a", "flac", source,
    )  # fmt: skip
    result, _ = annotate(source, tmp_path / "out")
    assert frame_times(result) == pytest.approx(frame_times(source), abs=0.002)


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ("360x288", "64/45", (512, 288)),
        ("352x288", "12/11", (384, 288)),
        ("80x96", "2/1", (160, 96)),
        ("160x48", "1/2", (160, 96)),
        ("64x48", "1/1", (64, 48)),
        ("64x48", "0/1", (64, 48)),
        ("64x48", "5000/1", (64, 48)),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pixels_become_square(size, aspect, shown, ending, tmp_path):
    source = clip(tmp_path / f"source.{ending}", "-vf", f"setsar={aspect}", *H264_B, size=size)
    result, _ = annotate(source, tmp_path / "out")
    after = probe(result, "v:0", "width,height,sample_aspect_ratio")
    assert (after["width"], after["height"]) == shown
    assert after.get("sample_aspect_ratio", "1:1") in ("1:1", "0:1", "N/A")


def test_pixels_of_a_turned_clip_are_made_square_before_it_is_turned(tmp_path):
    flat = clip(tmp_path / "flat.mp4", "-vf", "setsar=2/1", *H264_B, size="80x96")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v", "rotate=90", turned)
    result, _ = annotate(turned, tmp_path / "out")
    assert decoded(result).shape == (160, 96, 3)


def test_the_detector_sees_square_pixels(tmp_path):
    source = clip(tmp_path / "wide.mp4", "-vf", "setsar=2/1", *H264_B, size="80x96")
    with Reader(source) as reader:
        frame = next(item for item in reader if isinstance(item, Frame))
    assert frame.pixels.shape == (96, 160, 3)
    stretched = np.repeat(decoded(source), 2, axis=1).astype(int)
    assert np.abs(frame.pixels.astype(int) - stretched).mean() < 8


def test_a_cover_picture_is_not_taken_for_the_clip(tmp_path):
    source = clip(tmp_path / "source.mp4", *H264_B)
    cover = tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=200x200:d=1", "-frames:v", "1", cover)
    both = tmp_path / "both.mp4"
    ffmpeg(
        "-i", cover, "-i", source, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0",
        "attached_pic", both,
    )  # fmt: skip
    result, summary = annotate(both, tmp_path / "out")
    assert summary.frames == 50
    assert decoded(result).shape == (48, 64, 3)


def test_a_clip_that_changes_its_size_on_the_way_keeps_its_first(tmp_path):
    parts = [
        clip(tmp_path / f"{size}.webm", "-c:v", "libvpx", "-b:v", "200k", size=size)
        for size in ("64x48", "128x96")
    ]
    (tmp_path / "list.txt").write_text("".join(f"file '{part}'\n" for part in parts))
    joined = tmp_path / "joined.webm"
    ffmpeg("-f", "concat", "-safe", "0", "-i", tmp_path / "list.txt", "-c", "copy", joined)
    result, summary = annotate(joined, tmp_path / "out")
    assert summary.frames == 100
    assert decoded(result).shape == (48, 64, 3)
    assert len(frame_times(result)) == 100
