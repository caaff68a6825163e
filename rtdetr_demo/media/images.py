"""From the outside world to one upright RGB picture, in sRGB.

Nothing here trusts a name or a header: bytes decide what a file is, and sizes are checked before
pixels are decoded. What a person should know of a picture that was opened, such as that it lacks
its end, is a sentence in `image.info["note"]`.
"""

import base64
import binascii
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import BadInput, DamagedPicture, NotAPicture, TooLarge, Unprocessable
from .color_profiles import to_srgb
from .jpeg_tail import NOTE, read_without_tail
from .metadata_limits import check_info, check_metadata
from .tiff import is_scientific, read_tiff

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20


MAX_SCANS = 200
"""Passes over the picture that a JPEG may ask for; cameras and programs write ten."""

FRAME_PIXELS = 1920 * 1088
FRAME_SCANS = 20
FRAME_FORMATS = ("JPEG", "WEBP", "PNG")
"""What a live frame may be, so that it is decoded in an instant."""

# What Pillow may open. Formats that run programs (EPS), hold documents (PDF) or that nobody
# photographs with stay shut.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")

pillow_heif.register_heif_opener()
# We refuse by our own limit, in our own words, before Pillow's (which is higher) can warn.
Image.MAX_IMAGE_PIXELS = None


def read_picture(content: bytes | Path) -> Image.Image:
    """Decode a picture: upright, RGB in sRGB, first frame; its `info` holds a "note" at most.

    Raises NotAPicture where the bytes are no whole picture, TooLarge past `MAX_PIXELS`,
    Unprocessable where it is made to take long.
    """
    if isinstance(content, Path):
        content = content.read_bytes()
    return _read(content, FORMATS, MAX_PIXELS, MAX_SCANS)


def read_frame(content: bytes) -> Image.Image:
    """Decode a live frame, as `read_picture` does, but only what takes an instant."""
    return _read(content, FRAME_FORMATS, FRAME_PIXELS, FRAME_SCANS)


def _read(content: bytes, formats: tuple[str, ...], max_pixels: int, max_scans: int) -> Image.Image:
    def tiff() -> Image.Image:
        return _finished(read_tiff(content, lambda size: _check_size(size, max_pixels)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_metadata(content)
            if "TIFF" in formats and is_scientific(content):
                return tiff()
            with Image.open(io.BytesIO(content), formats=formats) as opened:
                _check_size(opened.size, max_pixels)
                check_info(opened)
                if opened.format in ("JPEG", "MPO") and _scans(content) > max_scans:
                    raise Unprocessable(
                        f"This JPEG asks for more than {max_scans} passes, which would take too "
                        "long. Save it again and send that."
                    )
                try:
                    opened.load()
                except OSError:
                    if opened.format == "TIFF":
                        return tiff()  # a compression that Pillow does not know
                    if opened.format not in ("JPEG", "MPO"):
                        raise
                    return _finished(read_without_tail(content), NOTE)
                return _finished(opened)
    except BadInput:
        raise
    except UnidentifiedImageError:
        raise NotAPicture(_what_it_is(content)) from None
    except MemoryError:
        raise TooLarge("There is too little memory for this picture. Send a smaller one.") from None
    except Exception as error:
        # Decoders meet damaged bytes with exceptions of every kind.
        raise DamagedPicture(
            "This picture is damaged or cut off, so it cannot be opened. Send it again, "
            "or save it again as JPEG or PNG."
        ) from error


def _finished(image: Image.Image, note: str | None = None) -> Image.Image:
    note = note or image.info.get("note")
    finished = _to_rgb(to_srgb(_upright(image)))
    finished.info = {"note": note} if note else {}
    return finished


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except BadInput:
        raise
    except Exception:
        # Damaged EXIF data says nothing about which way is up; the picture itself is whole.
        return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooLarge(
            f"This picture has {width * height / 1e6:,.0f} megapixels ({width} x {height}); "
            f"the limit is {max_pixels / 1e6:.0f}. Make it smaller and send it again."
        )
    if min(width, height) < 1:
        raise NotAPicture("This picture has no pixels. Send another one.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Sixteen bits and more a channel: spread what is there over eight.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image.convert("RGB")


_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def _scans(jpeg: bytes) -> int:
    """Scans up to the end of the picture; what may follow it, such as a film, is not looked at."""
    count, at = 0, 2
    while found := _MARKER.search(jpeg, at):
        marker, at = found[1], found.end()
        if marker == b"\xd9":
            break
        count += marker == b"\xda"
        if marker not in (b"\xd8", b"\x01"):  # all others tell their length
            at += int.from_bytes(jpeg[at : at + 2], "big")
    return count


def _what_it_is(content: bytes) -> str:
    head = content[:512]
    text = head.lstrip().lower()
    if not head:
        return "This file is empty. Choose another one."
    if text.startswith((b"<!doctype html", b"<html")):
        return "This is a web page, not a picture. Copy the address of the picture itself."
    if b"<svg" in text:
        return "This is an SVG drawing, not a photograph. Save it as PNG or JPEG first."
    if text.startswith(b"%pdf"):
        return "This is a PDF document, not a picture. Save the page as PNG or JPEG first."
    return "This is not a picture that we can open. Send a JPEG, PNG, WebP, GIF, TIFF or HEIC."


def read_data_uri(uri: str) -> bytes:
    """The bytes of a data: URI with base64, in the forms in which programs write it.

    White space anywhere, missing padding and the URL-safe alphabet are accepted. Raises BadInput or
    TooLarge.
    """
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().rstrip().endswith(";base64"):
        raise BadInput(
            "A data URI has the form data:image/...;base64,... : send the picture as one of these."
        )
    encoded = "".join(body.split()).translate(_URL_SAFE).rstrip("=")
    if len(encoded) > MAX_BYTES * 4 / 3 + 4:
        raise TooLarge(f"This picture is over {MAX_BYTES // 2**20} MB. Send a smaller one.")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(
            "The base64 of this data URI is damaged. Encode the picture again."
        ) from None


_URL_SAFE = str.maketrans("-_", "+/")
