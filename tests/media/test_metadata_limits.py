"""What a picture says about itself takes no more time or memory than the picture."""

import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from rtdetr_demo.errors import Unprocessable
from rtdetr_demo.media.images import read_picture
from rtdetr_demo.media.metadata_limits import check_metadata
from tests.support.metadata_bombs import BOMBS, png_with, raw_profile
from tests.support.paths import EXAMPLES
from tests.support.pictures import encoded, gradient

SECONDS = 0.3
MEGABYTES = 60


def peak() -> float:
    """The most megabytes that this process has held since `forget_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@pytest.fixture(scope="module", autouse=True)
def all_formats() -> None:
    """Pillow imports the readers of all formats with the first picture that needs them."""
    read_picture(encoded(gradient(), "TIFF"))


@pytest.fixture(params=BOMBS)
def bomb(request: pytest.FixtureRequest) -> Iterator[bytes]:
    yield BOMBS[request.param]()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_bomb_of_each_kind_is_refused_at_once_and_takes_no_memory(bomb: bytes):
    forget_peak()
    before, began = peak(), time.perf_counter()
    with pytest.raises(Unprocessable, match="metadata"):
        read_picture(bomb)
    assert time.perf_counter() - began < SECONDS
    assert peak() - before < MEGABYTES


ORIENTED = ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"]


@pytest.mark.parametrize("form", ORIENTED)
def test_orientation_is_followed_in_every_format(form: str):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    picture = gradient(64, 48)
    picture.info["exif"] = exif.tobytes()  # where HEIF expects it, which writes a rotation instead
    options = {} if form == "HEIF" else {"exif": exif}
    assert read_picture(encoded(picture, form, **options)).size == (48, 64)


def test_orientation_is_followed_in_a_raw_profile():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(png_with(raw_profile(exif.tobytes()))).size == (48, 64)


def test_a_tiff_of_thousands_of_strips_is_read():
    strips = 20_000
    table = 8 + 2 + 12 * 9 + 4
    entries = [
        (256, 3, 1, 8), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, strips, table), (277, 3, 1, 1), (278, 3, 1, 1),
        (279, 4, strips, table + 4 * strips),
    ]  # fmt: skip
    content = struct.pack("<2sHLH", b"II", 42, 8, len(entries))
    content += b"".join(struct.pack("<HHLL", *entry) for entry in entries) + bytes(4)
    pixels = table + 8 * strips
    content += struct.pack(f"<{strips}L", *range(pixels, pixels + 8 * strips, 8))
    content += struct.pack(f"<{strips}L", *[8] * strips) + bytes([77]) * 8 * strips
    picture = read_picture(content)
    assert picture.size == (8, strips)
    assert picture.getpixel((7, strips - 1)) == (77, 77, 77)


def test_camera_exif_with_a_large_maker_note_and_a_preview_is_read():
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    exif.get_ifd(0x8769)[0x927C] = bytes(50_000)
    assert read_picture(encoded(gradient(), "JPEG", exif=exif)).size == (64, 48)


def test_a_picture_of_several_pictures_is_read():
    content = encoded(
        gradient(), "MPO", save_all=True, append_images=[gradient(32, 24), gradient(16, 12)]
    )
    assert content.count(b"MPF\0") == 1
    assert read_picture(content).size == (64, 48)


def test_an_ordinary_color_profile_and_xmp_are_read():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"):
        content = encoded(gradient(), form, icc_profile=profile)
        assert read_picture(content).size == (64, 48)
    assert read_picture(encoded(gradient(), "WEBP", xmp=b"<x/>" * 50_000)).size == (64, 48)


def test_ten_megabytes_are_checked_in_milliseconds():
    noise = np.random.default_rng(0).integers(0, 256, (2000, 1700, 3), dtype=np.uint8)
    for form, options in (
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG", {"compress_level": 1}),
    ):
        content = encoded(Image.fromarray(noise), form, **options)
        assert len(content) > 9_000_000
        times = []
        for _ in range(5):
            began = time.perf_counter()
            check_metadata(content)
            times.append(time.perf_counter() - began)
        assert min(times) < 0.01


@pytest.mark.parametrize("cut", [4, 12, 20, 40, 100])
def test_what_is_cut_off_is_left_to_the_decoder(cut: int):
    for form in ORIENTED:
        check_metadata(encoded(gradient(), form)[:cut])


def test_the_examples_pass():
    for path in sorted(EXAMPLES.glob("*.jpg")):
        check_metadata(path.read_bytes())


def test_a_heif_whose_items_share_their_bytes_is_refused():
    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    items = b"".join(struct.pack(">HHHII", item, 0, 1, 0, 100_000) for item in range(900))
    locations = box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, 900) + items)
    content = box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4) + locations)
    with pytest.raises(Unprocessable, match="metadata"):
        check_metadata(content + box(b"mdat", bytes(100_000)))
