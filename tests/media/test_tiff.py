"""TIFFs of science and surveying come out right, or as a sentence; tifffile is the reference."""

import io
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from PIL import Image

from rtdetr_demo.errors import BadInput, TooLarge, Unprocessable
from rtdetr_demo.media import tiff
from rtdetr_demo.media.images import read_picture

QUADRANTS = np.zeros((160, 240, 3), np.uint8)
QUADRANTS[:80, :120], QUADRANTS[:80, 120:] = (220, 30, 30), (30, 200, 30)
QUADRANTS[80:, :120], QUADRANTS[80:, 120:] = (30, 30, 220), (230, 220, 40)
GREY = (QUADRANTS @ [0.299, 0.587, 0.114]).astype(np.uint8)
DEEP = QUADRANTS.astype(np.uint16) * 257
DEEP_GREY = GREY.astype(np.uint16) * 257


def written(pixels: np.ndarray, **options: object) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, **options)
    return content.getvalue()


def seen(content: bytes) -> np.ndarray:
    return np.asarray(read_picture(content)).astype(int)


def check(content: bytes, expected: np.ndarray, tolerance: int = 1) -> None:
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, -1)
    assert np.abs(seen(content) - expected).max() <= tolerance


def test_a_cmyk_tiff_with_sixteen_bits_is_read():
    inks = np.asarray(Image.fromarray(QUADRANTS).convert("CMYK")).astype(np.uint16)
    check(written(inks * 257, photometric="separated"), QUADRANTS, 2)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_color_with_sixteen_bits(layout, byteorder, compression):
    pixels = np.moveaxis(DEEP, 2, 0) if layout == "separate" else DEEP
    content = written(
        pixels.astype(byteorder + "u2"), photometric="rgb", planarconfig=layout,
        compression=compression, byteorder=byteorder,
    )  # fmt: skip
    check(content, QUADRANTS)
    assert "note" not in read_picture(content).info


@pytest.mark.parametrize(
    "options", [{"tile": (64, 64)}, {"predictor": True, "compression": "zlib"}, {"bigtiff": True}]
)
def test_tiles_predictors_and_big_tiffs(options):
    check(written(DEEP, photometric="rgb", **options), QUADRANTS)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_planes_one_after_another(dtype):
    pixels = QUADRANTS if dtype == "u1" else DEEP
    content = written(np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate")
    check(content, QUADRANTS)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_min_is_white(dtype):
    top = {"u1": 255, "u2": 65535, "u4": 2**32 - 1, "f4": 1.0}[dtype]
    pixels = (top - GREY.astype(float) * (top / 255)).astype(dtype)
    check(written(pixels, photometric="miniswhite"), GREY)


@pytest.mark.parametrize("dtype", ["u2", "u4", "i2", "i4", "f2", "f4", "f8"])
def test_grey_of_every_depth(dtype):
    kind = np.dtype(dtype)
    top = 1.0 if kind.kind == "f" else np.iinfo(kind).max
    pixels = (GREY.astype(float) * (top / 255)).astype(kind)
    check(written(pixels, photometric="minisblack"), GREY)


def test_twelve_bits_in_sixteen_are_seen_and_the_note_says_so():
    content = written((GREY.astype(np.uint16) * 16), photometric="minisblack")
    check(content, GREY, 2)
    assert "0 is black and 4095 is white" in read_picture(content).info["note"]


def test_negative_values_are_not_cut_off():
    content = written((GREY.astype(np.int32) - 100) * 1000, photometric="minisblack")
    values = seen(content)[..., 0]
    order = np.argsort(np.unique(GREY))
    levels = [values[tone == GREY].mean() for tone in np.unique(GREY)]
    assert (np.argsort(levels) == order).all()
    assert np.ptp(values) > 200
    assert "stretched" in read_picture(content).info["note"]


@pytest.mark.parametrize("scale", [0.01, 1.0, 4000.0])
def test_floats_with_infinities_and_blanks(scale):
    pixels = GREY.astype(np.float32) / 255 * scale
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = np.inf, -np.inf, np.nan
    values = seen(written(pixels, photometric="minisblack"))[..., 0]
    assert (values[0, 0], values[0, 1], values[0, 2]) == (255, 0, 0)
    expected = GREY if scale == 1.0 else GREY.astype(float) * 255 / GREY.max()
    assert np.abs(values[10:] - expected[10:]).max() <= 1


def test_a_few_values_far_out_do_not_leave_the_rest_black():
    pixels = GREY.astype(np.float32)
    pixels[3, 3] = 1e30
    assert np.ptp(seen(written(pixels, photometric="minisblack"))[..., 0][10:]) > 100


def test_what_gdal_marks_as_no_data_does_not_count():
    pixels = GREY.astype(np.float32) / 255
    pixels[:5] = -9999
    content = written(pixels, photometric="minisblack", extratags=[(42113, "s", 0, "-9999", True)])
    assert np.abs(seen(content)[10:, :, 0] - GREY[10:]).max() <= 1


def test_of_many_bands_the_first_three_are_shown_and_the_note_says_so():
    bands = np.concatenate([DEEP, DEEP[..., :2]], -1)
    content = written(bands, photometric="minisblack", planarconfig="contig")
    check(content, QUADRANTS)
    assert "5 bands" in read_picture(content).info["note"]


def test_alpha_with_sixteen_bits_lets_white_through():
    alpha = np.full((160, 240, 1), 65535, np.uint16)
    alpha[:80] = 0
    content = written(
        np.concatenate([DEEP, alpha], -1), photometric="rgb", extrasamples=["unassalpha"]
    )
    assert (seen(content)[10, 10] == 255).all()
    assert np.abs(seen(content)[100, 10] - QUADRANTS[100, 10]).max() <= 1


def test_a_palette_of_sixteen_bits():
    palette = np.zeros((3, 65536), np.uint16)
    palette[:, 700] = (65535, 0, 0x8000)
    pixels = np.full((64, 64), 700, np.uint16)
    content = written(pixels, photometric="palette", colormap=palette)
    assert seen(content)[5, 5].tolist() == [255, 0, 128]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_counts(orientation):
    turned = Image.fromarray(QUADRANTS)
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    if orientation > 1:
        turned = turned.transpose(ways[orientation])
    stored = np.asarray(turned).astype(np.uint16) * 257
    content = written(stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    check(content, QUADRANTS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (written(GREY.astype(np.complex64)), "complex"),
        (written(np.zeros((8, 64, 64), np.uint16), volumetric=True, tile=(4, 32, 32)), "volume"),
        (written(DEEP, photometric="cielab"), "CIELAB"),
        (written(np.full((20, 20), np.nan, np.float32)), "infinities"),
    ],
    ids=["complex", "volume", "lab", "blank"],
)
def test_what_is_not_supported_is_said_in_a_sentence(content, words):
    with pytest.raises(Unprocessable, match=words):
        read_picture(content)


def test_size_limits_hold_before_anything_is_decoded(monkeypatch):
    content = bytearray(written(np.zeros((64, 64), np.uint16), photometric="minisblack"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        places = [file.pages[0].tags[number].valueoffset for number in (256, 257)]
    for place in places:
        content[place : place + 4] = (60000).to_bytes(4, "little")
    with pytest.raises(TooLarge, match="megapixels"):
        read_picture(bytes(content))
    monkeypatch.setattr(tiff, "MAX_RAW_BYTES", 1000)
    with pytest.raises(TooLarge, match="fewer bands"):
        read_picture(written(DEEP, photometric="rgb"))


def test_bytes_damaged_anywhere_give_a_picture_or_a_sentence():
    whole = written(DEEP[:40, :40], photometric="rgb", compression="zlib")
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(damaged), 6):
            damaged[place] = random.integers(0, 256)
        with suppress(BadInput):
            assert read_picture(bytes(damaged)).mode == "RGB"


def test_ordinary_tiffs_stay_with_pillow():
    assert not tiff.is_scientific(written(QUADRANTS, photometric="rgb"))
    assert not tiff.is_scientific(written(GREY, photometric="minisblack"))
    assert not tiff.is_scientific(b"II*\0")
    code = "import sys, rtdetr_demo.media.images; sys.exit('tifffile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
