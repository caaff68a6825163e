"""From the outside world to one upright RGB picture.

Nothing here trusts a name, a header or a host: bytes decide what a file is, sizes are checked
before pixels are decoded, and addresses are checked after names are resolved.
"""

import base64
import binascii
import io
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import BadInput, DamagedPicture, NotAPicture, TooLarge

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20


# What Pillow may open. Formats that run programs (EPS), hold documents (PDF) or that nobody
# photographs with stay shut.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF", "PPM")

pillow_heif.register_heif_opener()
# We refuse by our own limit, in our own words, before Pillow's (which is higher) can warn.
Image.MAX_IMAGE_PIXELS = None


def read_picture(content: bytes | Path) -> Image.Image:
    """Decode a picture: upright, RGB, first frame.

    Raises NotAPicture where the bytes are no whole picture, TooLarge past `MAX_PIXELS`.
    """
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=FORMATS) as opened:
                _check_size(opened.size)
                opened.load()
                return _to_rgb(_upright(opened))
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
            "or save it anew as JPEG or PNG."
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Damaged EXIF data says nothing about which way is up; the picture itself is whole.
        return image


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"This picture has {width * height / 1e6:,.0f} megapixels ({width} x {height}); "
            f"the limit is {MAX_PIXELS / 1e6:.0f}. Make it smaller and send it again."
        )
    if min(width, height) < 1:
        raise NotAPicture("This picture has no pixels. Send another one.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Sixteen bits and more a channel: spread what is there over eight.
        values = np.asarray(image, dtype=np.float32)
        top = 65535.0
        if image.mode == "F":  # no fixed range: 0 to 1 where it fits, else up to its highest value
            top = max(1.0, float(np.nan_to_num(values).max()))
        image = Image.fromarray((np.nan_to_num(values).clip(0, top) * (255 / top)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _what_it_is(content: bytes | Path) -> str:
    if isinstance(content, Path):
        with content.open("rb") as file:
            head = file.read(512)
    else:
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
    """The bytes of a data: URI with base64. Raises BadInput or TooLarge."""
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise BadInput("This data URI does not read data:image/...;base64,... as it must.")
    if len(body) > MAX_BYTES * 4 / 3 + 4:
        raise TooLarge(f"This picture is over {MAX_BYTES // 2**20} MB. Send a smaller one.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("The base64 of this data URI is damaged. Encode the picture anew.") from None
