"""JPEGs that lack their end, as broken-off downloads leave them: what is there, as in browsers."""

import io
import re

import numpy as np
from PIL import Image

from ..errors import DamagedPicture

NOTE = "This JPEG lacks its end: what is missing of the picture is grey."

MOST_MISSING = 0.5
"""Share of the rows that may be missing."""

_END = b"\xff\xd9"
_FILL = 128
"""Level of every channel where the decoder has no data."""

_SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xda])")


def read_without_tail(content: bytes) -> Image.Image:
    """Decode a JPEG up to where it breaks off; the rest is grey.

    Raises DamagedPicture where most of the picture is missing, and what Pillow raises where there
    is none.
    """
    image = Image.open(io.BytesIO(content.rstrip(b"\xff") + _END), formats=("JPEG",))
    image.load()
    if _missing_share(image) > MOST_MISSING or not _has_detail(content):
        raise DamagedPicture(
            "This JPEG is cut off: most of the picture is missing. Send the complete file."
        )
    return image


def _missing_share(image: Image.Image) -> float:
    """Share of the rows, from the last one up, that the decoder had no data for."""
    values = np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)
    if image.mode == "CMYK":
        values = np.asarray(image)
    filled = (values == _FILL) if image.mode != "CMYK" else (values == 255 - _FILL)
    rows = filled.reshape(len(values), -1).all(axis=1)
    with_data = np.flatnonzero(~rows)
    return 1.0 if not len(with_data) else 1 - (with_data[-1] + 1) / len(values)


def _has_detail(content: bytes) -> bool:
    """Whether the first scans are there: a progressive JPEG begins with a coarse picture of 8 x 8
    blocks, which by itself is not the picture."""
    seen: list[tuple[int, int]] = []
    progressive = False
    at = 2
    while (match := _SEGMENT.search(content, at)) is not None:
        marker, at = match[1][0], match.end()
        length = int.from_bytes(content[at : at + 2], "big")
        if marker == 0xC2:
            progressive = True
        elif marker == 0xDA and len(content) >= at + length:
            start, end = content[at + length - 3], content[at + length - 2]
            component = content[at + 3]
            seen.append((component, end if start else 0))
        at += max(length, 2)
    if not progressive:
        return True
    # The scan that breaks off does not count.
    first = seen[0][0] if seen else 0
    return any(component == first and end == 63 for component, end in seen[:-1])
