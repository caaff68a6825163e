"""Whatever is sent, a picture or one plain sentence comes out."""

import gc
import io
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from rtdetr_demo.errors import BadInput, DemoError, NotAPicture, TooLarge
from rtdetr_demo.media import fetch as fetching
from rtdetr_demo.media.fetch import MAX_SECONDS, fetch, is_public
from rtdetr_demo.media.images import read_picture
from tests.support.paths import REPO
from tests.support.pictures import BAD_PICTURES, BAD_URLS, encoded, gradient
from tests.support.standin import PictureHost, QuietHandler


def check_sentence(error: DemoError) -> None:
    """One or two sentences for a person: no trace, no path, no type name."""
    text = str(error)
    assert 15 < len(text) < 300
    assert text.endswith(".")
    for leak in ("Traceback", "Error(", "Errno", "PIL.", "site-packages", str(REPO), "/tmp/"):
        assert leak not in text


# --- Pictures of every kind come out upright and RGB ----------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        encoded(gradient(), "JPEG", quality=95),
        encoded(gradient(), "PNG"),
        encoded(gradient(), "WEBP", lossless=True),
        encoded(gradient(), "BMP"),
        encoded(gradient(), "TIFF"),
        encoded(gradient(), "AVIF", quality=95),
        encoded(gradient().convert("RGBA"), "PNG"),
        encoded(gradient().convert("CMYK"), "JPEG", quality=95),
        encoded(gradient().convert("CMYK"), "TIFF"),
        encoded(gradient().quantize(256), "PNG"),
        encoded(gradient().quantize(256), "GIF"),
    ],
    ids="jpeg png webp bmp tiff avif rgba cmyk-jpeg cmyk-tiff palette gif".split(),
)
def test_every_kind_of_picture_keeps_its_colours(content):
    picture = read_picture(content)
    assert (picture.mode, picture.size) == ("RGB", (64, 48))
    difference = np.abs(np.asarray(picture, float) - np.asarray(gradient(), float))
    assert difference.mean() < 12


def test_heic_is_read():
    content = io.BytesIO()
    pillow_heif.from_pillow(gradient(64, 64)).save(content, quality=90)
    picture = read_picture(content.getvalue())
    assert np.abs(np.asarray(picture, float) - np.asarray(gradient(64, 64), float)).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_obeyed(orientation):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = gradient() if orientation == 1 else gradient().transpose(turn[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(encoded(stored, "JPEG", quality=95, exif=exif))
    assert picture.size == (64, 48)
    assert np.abs(np.asarray(picture, float) - np.asarray(gradient(), float)).mean() < 6


def test_transparency_becomes_white_paper():
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert read_picture(encoded(clear, "PNG")).getpixel((5, 5)) == (255, 255, 255)


def test_sixteen_bits_a_channel_keep_their_brightness():
    deep = Image.fromarray(np.linspace(0, 65535, 100 * 100, dtype=np.uint16).reshape(100, 100))
    values = np.asarray(read_picture(encoded(deep, "PNG")), float)
    assert values[0, 0, 0] < 3
    assert values[-1, -1, 0] > 252
    assert values.mean() == pytest.approx(127.5, abs=3)


def test_a_dark_picture_of_sixteen_bits_stays_dark():
    dark = Image.fromarray(np.full((10, 10), 200, dtype=np.uint16))
    assert read_picture(encoded(dark, "PNG")).getpixel((5, 5)) == (0, 0, 0)


def test_a_picture_of_floats_keeps_its_brightness():
    bright = Image.fromarray(np.full((10, 10), 0.5, dtype=np.float32))
    assert read_picture(encoded(bright, "TIFF")).getpixel((5, 5)) == (127, 127, 127)


def test_greyscale_and_black_and_white_are_read():
    grey = read_picture(encoded(gradient().convert("L"), "PNG"))
    line = read_picture(encoded(gradient().convert("1"), "PNG"))
    assert (grey.mode, line.mode) == ("RGB", "RGB")
    assert set(np.unique(np.asarray(line))) == {0, 255}


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    red, _, blue = read_picture(content).getpixel((10, 10))
    assert red > 200
    assert blue < 50


@pytest.mark.parametrize("size", [(1, 1), (10000, 10), (10, 10000)])
def test_odd_sizes_are_pictures_too(size):
    assert read_picture(encoded(Image.new("RGB", size, "red"), "PNG")).size == size


def test_fifty_megapixels_are_accepted():
    content = encoded(Image.new("L", (8000, 6250), 128), "PNG")
    assert read_picture(content).size == (8000, 6250)


# --- Bad pictures: one sentence each, and memory back to where it was -----------------------------


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_refused_in_a_sentence(name):
    with pytest.raises(BadInput) as refusal:
        read_picture(BAD_PICTURES[name])
    check_sentence(refusal.value)


def heic() -> bytes:
    content = io.BytesIO()
    pillow_heif.from_pillow(gradient(64, 64)).save(content, quality=90)
    return content.getvalue()


def jpeg_with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker of cameras"
    return encoded(gradient(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "whole", [heic(), encoded(gradient(), "AVIF"), jpeg_with_exif()], ids=["heic", "avif", "jpeg"]
)
def test_bytes_damaged_anywhere_give_a_picture_or_a_sentence(whole):
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(damaged), 6):
            damaged[place] = random.integers(0, 256)
        try:
            assert read_picture(bytes(damaged)).mode == "RGB"
        except BadInput as refusal:
            check_sentence(refusal)


def test_a_file_on_disk_is_refused_like_bytes(tmp_path):
    letter = tmp_path / "letter.jpg"
    letter.write_text("This is not a picture at all.")
    with pytest.raises(NotAPicture) as refusal:
        read_picture(letter)
    check_sentence(refusal.value)


@pytest.mark.parametrize("name", ["decompression bomb", "51 megapixels"])
def test_what_is_too_large_is_refused_before_it_is_decoded(name):
    began = time.thread_time()
    with pytest.raises(TooLarge, match="megapixels"):
        read_picture(BAD_PICTURES[name])
    assert time.thread_time() - began < 0.2


def test_memory_is_back_to_where_it_was_after_many_bad_pictures():
    def resident_mb() -> float:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def refuse_all() -> None:
        for content in BAD_PICTURES.values():
            with pytest.raises(BadInput):
                read_picture(content)
        gc.collect()

    refuse_all()
    before = resident_mb()
    for _ in range(5):
        refuse_all()
    assert resident_mb() - before < 60


# --- Addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_address_is_refused_in_a_sentence(url):
    began = time.monotonic()
    with pytest.raises(BadInput) as refusal:
        fetch(url)
    check_sentence(refusal.value)
    assert time.monotonic() - began < MAX_SECONDS + 5


def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch):
    def resolve(host, port, **_):
        entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*entry, ("93.184.215.14", port)), (*entry, ("10.0.0.7", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BadInput, match="private network"):
        fetch("http://pictures.example.com/photo.jpg")


def test_the_address_that_was_checked_is_the_address_that_is_asked(monkeypatch):
    """A name that answers differently the second time (DNS rebinding) gains nothing."""
    answers = iter(["93.184.215.14"])
    asked = []

    def resolve(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address, *_, **__):
        asked.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(BadInput, match="could not be reached"):
        fetch("http://pictures.example.com/photo.jpg")
    assert asked == [("93.184.215.14", 80)]


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]
)
def test_addresses_of_the_open_internet_are_public(address):
    assert is_public(address)


PHOTO = encoded(gradient(), "JPEG")


def endless(request: QuietHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"\0" * 65536)


def slow_header(request: QuietHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        request.wfile.write(b"a")
        time.sleep(0.1)


def trickle(request: QuietHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"\0")
        time.sleep(0.05)


def short(request: QuietHandler) -> None:
    request.reply(200, PHOTO[:100], Content_Length="5000")
    request.close_connection = True


def redirect(where: str) -> Callable[[QuietHandler], None]:
    return lambda request: request.reply(302, Location=where)


PAGES: dict[str, Callable[[QuietHandler], None]] = {
    "/photo.jpg": lambda request: request.reply(200, PHOTO, Content_Type="text/html"),
    "/html.png": lambda request: request.reply(200, b"<html></html>", Content_Type="image/png"),
    "/moved": redirect("/photo.jpg"),
    "/loop": redirect("/loop"),
    "/to-loopback": redirect("http://127.0.0.1:1/photo.jpg"),
    "/to-metadata": redirect("http://169.254.169.254/latest/"),
    "/to-file": redirect("file:///etc/passwd"),
    "/to-nowhere": lambda request: request.reply(302),
    "/broken": lambda request: request.reply(500),
    "/teapot": lambda request: request.reply(418),
    "/endless": endless,
    "/trickle": trickle,
    "/slow-header": slow_header,
    "/to-nonsense": redirect("//[x"),
    "/hang": lambda request: time.sleep(20),
    "/short": short,
}


@pytest.fixture(scope="module")
def host():
    with PictureHost(PAGES) as server:
        yield server


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_SECONDS", 1.0)
    monkeypatch.setattr(fetching, "MAX_BYTES", 2**20)


@pytest.mark.parametrize("path", ["/photo.jpg", "/moved"])
def test_a_picture_is_fetched_whatever_its_header_says(host, path):
    content = fetch(host.url + path, [host.host])
    assert read_picture(content).size == (64, 48)


def test_html_served_as_a_picture_is_refused_by_its_bytes(host):
    content = fetch(host.url + "/html.png", [host.host])
    with pytest.raises(NotAPicture, match="web page"):
        read_picture(content)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/loop", "redirects too many times"),
        ("/to-loopback", "private network"),
        ("/to-metadata", "private network"),
        ("/to-file", "must start with http"),
        ("/to-nowhere", "redirects"),
        ("/broken", "answered 500"),
        ("/teapot", "answered 418"),
        ("/missing", "answered 404"),
        ("/endless", "over 1 MB"),
        ("/trickle", "took longer"),
        ("/slow-header", "took longer"),
        ("/to-nonsense", "not a valid web address"),
        ("/hang", "took longer"),
        ("/short", "could not be reached"),
    ],
)
def test_a_bad_server_is_given_up_in_a_sentence(host, hasty, path, words):
    began = time.monotonic()
    with pytest.raises(BadInput, match=words) as refusal:
        fetch(host.url + path, [host.host])
    check_sentence(refusal.value)
    assert time.monotonic() - began < 4


def test_the_loopback_address_is_refused_unless_the_operator_allows_it(host):
    with pytest.raises(BadInput, match="private network"):
        fetch(host.url + "/photo.jpg")
