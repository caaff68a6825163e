"""The annotated clip has the colors of its source, by ffmpeg's and by Chromium's account."""

import base64
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from rtdetr_demo.errors import BadInput
from tests.support.clips import annotate, decoded, ffmpeg, probe

PATCHES = ["red", "lime", "blue", "white", "black", "gray", "orange", "0x205080"]
TAGS = "color_space,color_primaries,color_transfer,color_range"

TAGGED = {
    "bt709": ("bt709", "bt709", "bt709", "tv"),
    "bt709 full range": ("bt709", "bt709", "bt709", "pc"),
    "bt601": ("smpte170m", "smpte170m", "smpte170m", "tv"),
    "bt601 PAL full range": ("bt470bg", "bt470bg", "gamma28", "pc"),
    "bt2020 SDR": ("bt2020nc", "bt2020", "bt2020-10", "tv"),
    "bt2020 SDR full range": ("bt2020nc", "bt2020", "bt2020-10", "pc"),
    "sRGB transfer": ("bt709", "bt709", "iec61966-2-1", "tv"),
    "smpte240m": ("smpte240m", "smpte240m", "smpte240m", "tv"),
}
_SCALE = {"smpte170m": "smpte170m", "bt470bg": "bt470bg", "bt2020nc": "bt2020"}


def patches(
    path: Path, matrix: str, primaries: str, transfer: str, range_: str, *options: str,
    size: str = "40x180", pixels: str = "yuv420p",
) -> Path:  # fmt: skip
    """A clip of eight plain columns, converted with a matrix and a range, and tagged."""
    inputs = [
        part
        for color in PATCHES
        for part in ("-f", "lavfi", "-i", f"color={color}:s={size}:r=10:d=0.3")
    ]
    scale = f"scale=out_color_matrix={_SCALE.get(matrix, matrix)}:out_range={range_}"
    tags = ["-colorspace", matrix, "-color_primaries", primaries, "-color_trc", transfer]
    tags += ["-color_range", range_]
    ffmpeg(
        *inputs, "-filter_complex", f"hstack=inputs={len(PATCHES)},{scale},format={pixels}",
        *tags, *(options or ("-c:v", "libx264", "-crf", "1")), path,
    )  # fmt: skip
    return path


def untagged(path: Path, matrix: str, size: str) -> Path:
    inputs = [
        part
        for color in PATCHES
        for part in ("-f", "lavfi", "-i", f"color={color}:s={size}:r=10:d=0.3")
    ]
    filters = f"hstack=inputs=8,scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p"
    ffmpeg(*inputs, "-filter_complex", filters, "-c:v", "libx264", "-crf", "1", path)
    return path


def columns(pixels: np.ndarray) -> np.ndarray:
    """The color in the middle of each column, [8, 3]."""
    height, width = pixels.shape[:2]
    return pixels[height // 2, [width * (2 * i + 1) // 16 for i in range(8)]].astype(int)


@pytest.mark.parametrize("name", TAGGED)
def test_tags_are_the_sources_and_ffmpeg_decodes_the_same_colors(name, tmp_path):
    source = patches(tmp_path / "source.mp4", *TAGGED[name])
    result, summary = annotate(source, tmp_path / "out")
    assert probe(result, "v:0", TAGS) == probe(source, "v:0", TAGS)
    assert np.abs(columns(decoded(result)) - columns(decoded(source))).max() <= 3
    assert summary.notes == []


@pytest.mark.parametrize(("matrix", "size"), [("bt709", "80x720"), ("bt601", "40x180")])
def test_a_clip_without_tags_keeps_its_numbers_and_stays_untagged(matrix, size, tmp_path):
    source = untagged(tmp_path / "source.mp4", matrix, size)
    result, _ = annotate(source, tmp_path / "out")
    assert probe(result, "v:0", TAGS) == probe(source, "v:0", TAGS)
    assert np.abs(columns(decoded(result)) - columns(decoded(source))).max() <= 3


@pytest.mark.parametrize(
    ("ending", "codec", "pixels"),
    [
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mkv", "libx264", "yuv444p10le"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("mkv", "ffv1", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mkv", "ffv1", "gbrp"),
    ],
)
def test_other_codecs_and_depths_keep_their_colors(ending, codec, pixels, tmp_path):
    range_ = "pc" if pixels in ("yuvj420p", "gbrp") else "tv"
    source = patches(
        tmp_path / f"source.{ending}", "bt709", "bt709", "bt709", range_, "-c:v", codec,
        "-q:v", "1", pixels=pixels,
    )  # fmt: skip
    result, _ = annotate(source, tmp_path / "out")
    assert np.abs(columns(decoded(result)) - columns(decoded(source))).max() <= 3


@pytest.fixture
def colors_in_chromium(browser: Browser):
    def colors(path: Path) -> np.ndarray:
        page = browser.new_page()
        address = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
        try:
            pixels = page.evaluate(
                """async (address) => {
                  const video = document.createElement("video");
                  video.muted = true;
                  video.src = address;
                  await new Promise((done, fail) => {
                    video.onloadeddata = done;
                    video.onerror = () => fail(new Error(video.error.message));
                  });
                  video.currentTime = 0.15;
                  await new Promise((done) => { video.onseeked = done; });
                  const canvas = document.createElement("canvas");
                  canvas.width = video.videoWidth;
                  canvas.height = video.videoHeight;
                  const pen = canvas.getContext("2d");
                  const at = (i) => Math.floor((canvas.width * (2 * i + 1)) / 16);
                  let colors = [];
                  for (let turn = 0; turn < 40 && !colors.flat().some((v) => v > 200); turn++) {
                    await new Promise((done) => setTimeout(done, 50));
                    pen.drawImage(video, 0, 0);
                    colors = Array.from({ length: 8 }, (_, i) =>
                      [...pen.getImageData(at(i), canvas.height / 2, 1, 1).data].slice(0, 3));
                  }
                  return colors;
                }""",
                address,
            )
        finally:
            page.close()
        assert np.max(pixels) > 200, "nothing was drawn"
        return np.array(pixels)

    return colors


@pytest.mark.parametrize("name", ["bt709", "bt709 full range", "bt601", "bt2020 SDR"])
def test_chromium_shows_the_sources_colors(name, tmp_path, colors_in_chromium):
    source = patches(tmp_path / "source.mp4", *TAGGED[name])
    result, _ = annotate(source, tmp_path / "out")
    assert np.abs(colors_in_chromium(result) - colors_in_chromium(source)).max() <= 3


def test_chromium_shows_an_untagged_hd_clip_in_the_sources_colors(tmp_path, colors_in_chromium):
    source = untagged(tmp_path / "source.mp4", "bt709", "80x720")
    result, _ = annotate(source, tmp_path / "out")
    assert np.abs(colors_in_chromium(result) - colors_in_chromium(source)).max() <= 3


@pytest.mark.parametrize(
    ("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG")], ids=["PQ", "HLG"]
)
def test_hdr_is_tone_mapped_as_chromium_does_and_the_result_says_so(
    transfer, name, tmp_path, colors_in_chromium
):
    steps = "65535*(0.1+0.1*floor(X/40))"
    ffmpeg(
        "-f", "lavfi", "-i", "nullsrc=s=320x180:r=10:d=0.3,format=gbrp16le", "-vf",
        f"geq=r='{steps}':g='{steps}':b='{steps}',"
        "scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le",
        "-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer,
        "-c:v", "libx264", "-crf", "1", source := tmp_path / "source.mp4",
    )  # fmt: skip
    result, summary = annotate(source, tmp_path / "out")
    assert set(probe(result, "v:0", TAGS).values()) == {"bt709", "tv"}
    assert np.abs(colors_in_chromium(result) - colors_in_chromium(source)).max() <= 3
    assert np.abs(columns(decoded(result)) - colors_in_chromium(source)).max() <= 3
    [note] = summary.notes
    assert f"HDR ({name})" in note
    assert "tone-mapped" in note


def test_colors_that_cannot_be_converted_are_refused_in_a_sentence(tmp_path):
    source = patches(tmp_path / "plain.mp4", *TAGGED["bt709"])
    filters = "h264_metadata=matrix_coefficients=8"  # YCgCo
    strange = tmp_path / "strange.h264.mp4"
    ffmpeg("-i", source, "-c", "copy", "-bsf:v", filters, "-movflags", "-write_colr", strange)
    with pytest.raises(BadInput, match=r"H\.273"):
        annotate(strange, tmp_path / "out")
