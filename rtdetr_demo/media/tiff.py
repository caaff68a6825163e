"""TIFF pictures of science and surveying, which Pillow cannot read or reads wrongly.

More than eight bits a sample, signed and float samples, planes stored one after another, more
bands than three. These are read by tifffile; ordinary TIFFs stay with Pillow.
"""

import io
import logging
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DamagedPicture, TooLarge, Unprocessable

MAX_RAW_BYTES = 2**30
"""Bytes of all samples of a picture, as they are stored."""

FLAT = 4
"""Steps of 255 within which a picture counts as one flat color."""

# It reports every oddity of a file that it can still read.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SAMPLE_FORMAT = 258, 262, 277, 284, 339
_MOST_TAGS = 4096
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, SEPARATED = 0, 1, 2, 3, 5

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_scientific(content: bytes) -> bool:
    """Whether this is a TIFF whose first picture Pillow does not read, or not rightly."""
    try:
        tags = _first_tags(content)
    except (struct.error, IndexError):
        return False  # no TIFF, or one so damaged that nobody reads it
    if not tags:
        return False
    bits = tags.get(_BITS, (1,))
    return (
        any(count not in (1, 8) for count in bits)
        or len(set(bits)) > 1
        or any(kind != 1 for kind in tags.get(_SAMPLE_FORMAT, (1,)))
        or tags.get(_PLANAR, (1,))[0] == 2
        or tags.get(_SAMPLES, (1,))[0] > 4
        or (tags.get(_SAMPLES, (1,))[0] > 2 and tags.get(_PHOTOMETRIC, (2,))[0] <= MIN_IS_BLACK)
    )


def _first_tags(content: bytes) -> dict[int, tuple[int, ...]]:
    """The short integers of the first directory; empty where it is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return {}
    (version,) = struct.unpack_from(order + "H", content, 2)
    if version == 42:
        (at,) = struct.unpack_from(order + "I", content, 4)
        count_form, entry_form, inline = "H", "HHI", 4
    elif version == 43:
        (at,) = struct.unpack_from(order + "Q", content, 8)
        count_form, entry_form, inline = "Q", "HHQ", 8
    else:
        return {}
    (entries,) = struct.unpack_from(order + count_form, content, at)
    at += struct.calcsize(order + count_form)
    size = struct.calcsize(order + entry_form)
    tags = {}
    for _ in range(min(entries, _MOST_TAGS)):
        tag, kind, count = struct.unpack_from(order + entry_form, content, at)
        if tag in (_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SAMPLE_FORMAT):
            form = {3: "H", 4: "I"}.get(kind)
            if form and 0 < count <= 1024:
                place = at + size
                if count * struct.calcsize(form) > inline:
                    place = struct.unpack_from(
                        order + ("I" if inline == 4 else "Q"), content, place
                    )[0]
                tags[tag] = struct.unpack_from(f"{order}{count}{form}", content, place)
        at += size + inline
    return tags


def read_tiff(content: bytes, check_size: Callable[[tuple[int, int]], None]) -> Image.Image:
    """The first picture of a TIFF in mode RGB, L, CMYK or RGBA, upright.

    Where values had to be stretched or bands left out to show it, `info["note"]` says so. Raises
    Unprocessable, in a sentence, for what is not supported, TooLarge past a limit, and
    DamagedPicture.
    """
    import tifffile  # not at the top: most pictures need it not

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            check_size((page.imagewidth, page.imagelength))
            _check_supported(page)
            samples = page.asarray(maxworkers=1)
            return _picture(page, samples)
    except (TooLarge, Unprocessable, MemoryError):
        raise
    except ValueError as error:
        if (
            "requires the 'imagecodecs' package" in str(error)
            or "unsupported" in str(error).lower()
        ):
            raise Unprocessable(
                "This TIFF is compressed in a way that is not supported. Save it uncompressed, or "
                "with LZW or Deflate."
            ) from None
        raise DamagedPicture(_DAMAGED) from error
    except Exception as error:
        # What damaged directories and strips raise is of every kind.
        raise DamagedPicture(_DAMAGED) from error


_DAMAGED = "This TIFF is damaged or cut off, so it cannot be opened. Save it again and send that."


def _check_supported(page: Any) -> None:
    if page.imagedepth > 1:
        raise Unprocessable("This TIFF is a volume. Save one of its slices and send that.")
    if page.dtype is None or page.dtype.kind not in "buif":
        raise Unprocessable(
            "This TIFF holds complex numbers or samples of an unknown kind, which are not "
            "supported. Save it with whole or real numbers."
        )
    photometric = int(page.photometric)
    if photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, SEPARATED):
        name = getattr(page.photometric, "name", photometric)
        raise Unprocessable(
            f"This TIFF codes its colors as {name} with {page.bitspersample} bits, which is not "
            "supported. Save it as RGB or grey."
        )
    if photometric == SEPARATED and page.samplesperpixel < 4:
        raise Unprocessable("This TIFF has inks other than CMYK. Save it as RGB.")
    if photometric == RGB and page.samplesperpixel < 3:
        raise Unprocessable("This TIFF says that it is RGB, but has no three bands. Save it again.")
    if (
        page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize
        > MAX_RAW_BYTES
    ):
        raise TooLarge(
            f"The samples of this TIFF take more than {MAX_RAW_BYTES // 2**20} MB. Save it with "
            "fewer bands or bits."
        )


def _picture(page: Any, samples: np.ndarray) -> Image.Image:
    bands = _bands(page, samples)
    photometric, count = int(page.photometric), bands.shape[-1]
    notes: list[str] = []
    alpha = None
    if photometric == PALETTE:
        image = _with_palette(page, bands[..., 0])
    else:
        wanted = {RGB: 3, SEPARATED: 4}.get(photometric, 3 if count > 2 else 1)
        extra = [int(kind) for kind in page.extrasamples]
        if extra and extra[0] in (1, 2) and count > wanted and photometric != SEPARATED:
            alpha = _levels(bands[..., wanted], page, [], photometric)
        elif count > wanted:
            notes.append(
                f"This TIFF has {count} bands: the first {wanted} are shown as "
                f"{'red, green and blue' if wanted == 3 else 'they are'}."
                if wanted > 1
                else f"This TIFF has {count} bands: the first is shown."
            )
        levels = _levels(bands[..., :wanted], page, notes, photometric)
        if photometric == MIN_IS_WHITE:
            levels = 255 - levels
        if wanted == 1:
            image = Image.fromarray(levels[..., 0])
        else:
            image = Image.fromarray(np.ascontiguousarray(levels), {3: "RGB", 4: "CMYK"}[wanted])
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    turn = _TURNS.get(_tag(page, 274) or 1)
    if turn is not None:
        image = image.transpose(turn)
    profile = _tag(page, 34675)
    if isinstance(profile, bytes):
        image.info["icc_profile"] = profile
    if notes:
        image.info["note"] = " ".join(notes)
    return image


def _bands(page: Any, samples: np.ndarray) -> np.ndarray:
    """[height, width, bands], however the file stores them."""
    height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
    if samples.shape[:2] == (height, width):
        return samples.reshape(height, width, count)
    return np.moveaxis(samples.reshape(count, height, width), 0, -1)


def _tag(page: Any, number: int) -> Any:
    tag = page.tags.get(number)
    return None if tag is None else tag.value


def _with_palette(page: Any, indices: np.ndarray) -> Image.Image:
    colors = np.asarray(page.colormap)
    table = (colors >> 8).astype(np.uint8) if colors.max() > 255 else colors.astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(table.T[np.minimum(indices, table.shape[1] - 1)]))


def _levels(values: np.ndarray, page: Any, notes: list[str], photometric: int) -> np.ndarray:
    """Samples as uint8, black 0. Adds a note where values were stretched to be seen."""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    valid = _valid(values, page)
    known = values[valid]
    if not known.size:
        raise Unprocessable("This TIFF holds no numbers but infinities and blanks. Send another.")
    least, most = float(known.min()), float(known.max())
    low, high = _range(values.dtype, int(page.bitspersample), least, most)
    levels = _spread(values, valid, low, high)
    if values.dtype != np.uint8 and most > least and np.ptp(np.percentile(levels, (1, 99))) < FLAT:
        # A few values far out would leave the rest in one tone.
        inner = [float(value) for value in np.percentile(known, (0.5, 99.5))]
        if inner[1] > inner[0]:
            low, high = inner
        else:
            low, high = least, most
        levels = _spread(values, valid, low, high)
    if (low, high) != _full_range(values.dtype, int(page.bitspersample)):
        notes.append(
            f"The values of this TIFF, {least:.4g} to {most:.4g}, are shown stretched: "
            f"{low:.4g} is black and {high:.4g} is white."
            if photometric != MIN_IS_WHITE
            else f"The values of this TIFF, {least:.4g} to {most:.4g}, are shown stretched: "
            f"{low:.4g} is white and {high:.4g} is black."
        )
    return levels


def _valid(values: np.ndarray, page: Any) -> np.ndarray:
    """Which samples are numbers: neither infinite nor what GDAL marks as no data."""
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    blank = _tag(page, 42113)
    if isinstance(blank, str):
        try:
            valid &= values != values.dtype.type(float(blank.strip("\0 ")))
        except (ValueError, OverflowError):
            pass
    return valid


def _full_range(kind: np.dtype, bits: int) -> tuple[float, float]:
    if kind.kind == "f":
        return 0.0, 1.0
    if kind.kind == "i":
        return 0.0, float(2 ** (bits - 1) - 1)
    return 0.0, float(2**bits - 1)


def _range(kind: np.dtype, bits: int, least: float, most: float) -> tuple[float, float]:
    """The values that are black and white.

    All that the samples can hold, where they use a quarter of it; else, for whole numbers, what
    the fewest bits that suffice can hold (12 bits are often stored as 16), and for others up to
    the highest. Negative values make the lowest one black.
    """
    low, high = _full_range(kind, bits)
    if kind.kind == "u" and bits <= 8:
        return low, high
    if least < 0:
        return least, most
    if most > high or most < high / 4:
        if kind.kind == "f":
            return 0.0, most or 1.0
        return 0.0, float(2 ** max(8, int(most).bit_length()) - 1)
    return low, high


def _spread(values: np.ndarray, valid: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 255 / max(high - low, 1e-300)
    levels = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), 256):  # in parts: doubles of a whole picture are many
        part = values[row : row + 256].astype(np.float64)
        if values.dtype.kind == "f":
            part = np.nan_to_num(part, nan=low, posinf=high, neginf=low)
        part[~valid[row : row + 256] & (part != high)] = low
        levels[row : row + 256] = ((part - low) * scale + 1e-9).clip(0, 255)
    return levels
