"""Limits of what a picture file says about itself: EXIF, MPF, XMP, ICC and TIFF directories.

Pillow copies the data of every entry of a directory, and entries may share their bytes: a file of
one megabyte can ask for gigabytes. `check_metadata` bounds a file before Pillow opens it, and
`check_info` what the file held compressed or encoded. Pillow's own reader of directories is
bounded here too, so that none is read unchecked, wherever in a file it was.
"""

import io
import itertools
import os
import struct
from collections.abc import Iterator
from typing import IO, Any

from PIL import Image, TiffImagePlugin

from ..errors import Unprocessable

MAX_ENTRIES = 2000
"""Entries of one directory. Cameras write 100."""
MAX_VALUES = 500_000
"""Numbers in one directory; a picture of 50 megapixels in tiles of 16 pixels has 390,000."""
MAX_EXIF = 4 * 2**20
MAX_XMP = 16 * 2**20
MAX_ICC = 8 * 2**20
"""Bytes of a profile; those of printers with many inks have 3 MB."""
MAX_TEXT = 16 * 2**20
MAX_CHUNKS = 65_536
MAX_COMPRESSED = 64
"""Compressed chunks of metadata in one PNG."""
_SLACK = 65_536

_TOO_MUCH = (
    "The metadata (EXIF, XMP or color profile) of this picture is far larger than cameras and "
    "programs write. Save the picture again without metadata and send that."
)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
"""Bytes of one value of each TIFF type that Pillow reads."""
_PLAIN = (1, 2, 7)
"""Types whose values stay bytes; of the others each value becomes a Python object."""
_RATIONAL = (5, 10)


def check_metadata(content: bytes) -> None:
    """Refuse a file whose metadata would take much more time or memory than the file is large.

    Raises:
        Unprocessable: A sentence that says what to do.
    """
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(content)
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        _check_webp(content)
    elif content[4:8] == b"ftyp":
        _check_items(content)


def check_info(image: Image.Image) -> None:
    """Refuse an opened picture, of which nothing but the header was read, for the metadata that
    Pillow has taken out of its container.

    Raises:
        Unprocessable: A sentence that says what to do.
    """
    limits = {
        "exif": MAX_EXIF,
        "Raw profile type exif": 2 * MAX_EXIF,
        "xmp": MAX_XMP,
        "XML:com.adobe.xmp": MAX_XMP,
    }
    for name, limit in limits.items():
        if len(image.info.get(name) or b"") > limit:
            raise Unprocessable(_TOO_MUCH)
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes):
        check_profile(profile)


def check_profile(profile: bytes) -> None:
    """Refuse an ICC profile whose elements share their bytes, or that is very large.

    Raises:
        Unprocessable: A sentence that says what to do.
    """
    if len(profile) > MAX_ICC:
        raise Unprocessable(_TOO_MUCH)
    if len(profile) < 132:
        return
    (count,) = struct.unpack_from(">I", profile, 128)
    if count > 1000:
        raise Unprocessable(_TOO_MUCH)
    elements = 0
    for at in {
        struct.unpack_from(">I", profile, 136 + 12 * number)[0]
        for number in range(min(count, (len(profile) - 132) // 12))
    }:
        # A chain of elements, each of which lies anywhere in the tag. The library copies each.
        if profile[at : at + 4] != b"mpet" or at + 16 > len(profile):
            continue
        (length,) = struct.unpack_from(">I", profile, at + 12)
        positions = profile[at + 16 : at + 16 + 8 * min(length, MAX_ENTRIES + 1)]
        elements += len(positions) // 8
        total = sum(size for _, size in struct.iter_unpack(">II", positions[: len(positions) & ~7]))
        if elements > MAX_ENTRIES or total > 2 * len(profile):
            raise Unprocessable(_TOO_MUCH)


def check_directory(
    file: IO[bytes], endian: str, is_big: bool = False, is_part: bool = False
) -> None:
    """Refuse the TIFF directory that begins where a file stands, for what its entries would copy.

    Args:
        file: Stands where it stood afterwards.
        endian: `<` or `>`.
        is_big: Whether it is a BigTIFF.
        is_part: Whether all its entries are read as numbers, which those of a picture are not.

    Raises:
        Unprocessable: A sentence that says what to do.
    """
    start = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(start)
    head, entry = ("Q", "HHQQ") if is_big else ("H", "HHLL")
    entry_size, inline = (20, 8) if is_big else (12, 4)
    count_bytes = file.read(struct.calcsize(endian + head))
    if len(count_bytes) == struct.calcsize(endian + head):
        (count,) = struct.unpack(endian + head, count_bytes)
        table = file.read(entry_size * min(count, MAX_ENTRIES + 1))
        file.seek(start)
        if len(table) > entry_size * MAX_ENTRIES:
            raise Unprocessable(_TOO_MUCH)
        copied = values = 0
        whole = table[: len(table) // entry_size * entry_size]
        for _, kind, number, offset in struct.iter_unpack(endian + entry, whole):
            size = number * _SIZES.get(kind, 0)
            if size > inline:
                if offset + size > length:
                    break  # Pillow reads no further
                copied += size
            if kind not in _PLAIN:
                values += number * (4 if kind in _RATIONAL else 1)
        if copied > 2 * length + _SLACK or values > (MAX_VALUES // 8 if is_part else MAX_VALUES):
            raise Unprocessable(_TOO_MUCH)
    file.seek(start)


class _BoundedDirectory(TiffImagePlugin.ImageFileDirectory_v2):
    """A directory that is checked before it is read."""

    def __init__(self, ifh: bytes = b"II*\0\0\0\0\0", *args: Any, **options: Any) -> None:
        super().__init__(ifh, *args, **options)
        self._is_big = ifh[2] == 43

    def load(self, fp: IO[bytes]) -> None:
        endian = "<" if self.prefix == b"II" else ">"
        check_directory(fp, endian, self._is_big, self.group is not None)
        super().load(fp)


# Pillow looks the class up in its module whenever it reads a directory.
TiffImagePlugin.ImageFileDirectory_v2 = _BoundedDirectory  # type: ignore[misc]


def _check_jpeg(content: bytes) -> None:
    exif = profile = 0
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            break
        if marker in (0x01, *range(0xD0, 0xD9)):
            at += 2
            continue
        end = at + 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
        body = at + 4
        if marker == 0xE1 and content.startswith(b"Exif\0\0", body):
            exif += end - body
        elif marker == 0xE2 and content.startswith(b"ICC_PROFILE\0", body):
            profile += end - body
        elif marker == 0xE2 and content.startswith(b"MPF\0", body):
            _check_mpf(content[body + 4 : end])
        if exif > MAX_EXIF or profile > MAX_ICC:
            raise Unprocessable(_TOO_MUCH)
        at = end


def _check_mpf(data: bytes) -> None:
    """Pillow refuses nothing here: it takes a JPEG with a bad MPF segment for an ordinary one."""
    endian = ">" if data.startswith(b"MM\0*") else "<"
    if len(data) >= 8:
        file = io.BytesIO(data)
        file.seek(struct.unpack_from(endian + "L", data, 4)[0])
        check_directory(file, endian, is_part=True)


def _check_png(content: bytes) -> None:
    text = compressed = 0
    at = 8
    for number in itertools.count():
        if at + 12 > len(content):
            return
        if number >= MAX_CHUNKS:
            raise Unprocessable(_TOO_MUCH)
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
            text += length
            if kind in (b"zTXt", b"iCCP") or (
                kind == b"iTXt" and _is_compressed(content, at + 8, length)
            ):
                compressed += 1
        if text > MAX_TEXT or compressed > MAX_COMPRESSED:
            raise Unprocessable(_TOO_MUCH)
        if kind == b"IEND":
            return
        at += 12 + length


def _is_compressed(content: bytes, at: int, length: int) -> bool:
    end = content.find(b"\0", at, at + length)
    return end >= 0 and content[end + 1 : end + 2] != b"\0"


def _check_webp(content: bytes) -> None:
    limits = {b"EXIF": MAX_EXIF, b"XMP ": MAX_XMP, b"ICCP": MAX_ICC}
    at = 12
    for number in itertools.count():
        if at + 8 > len(content):
            return
        if number >= MAX_CHUNKS:
            raise Unprocessable(_TOO_MUCH)
        kind, length = struct.unpack_from("<4sI", content, at)
        if length > limits.get(kind, length):
            raise Unprocessable(_TOO_MUCH)
        at += 8 + length + length % 2


# HEIF and AVIF


def _check_items(content: bytes) -> None:
    """HEIF and AVIF: items that share their bytes, and metadata that is referred to often. The
    libraries copy the bytes of an item of metadata for each picture that it describes."""
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind == b"meta":
            _check_meta(content, start + 4, end)


def _check_meta(content: bytes, start: int, end: int) -> None:
    sizes: dict[int, int] = {}
    uses: dict[int, int] = {}
    try:
        for kind, first, last in _boxes(content, start, end):
            if kind == b"iloc":
                _add_item_sizes(sizes, content, first, last)
            elif kind == b"iref":
                _add_descriptions(uses, content, first, last)
            elif kind == b"iprp":
                _check_properties(content, first, last)
    except (struct.error, IndexError):
        return  # cut off; the library says so
    copied = sum(size * max(1, uses.get(item, 0)) for item, size in sizes.items())
    if copied > 2 * len(content) + _SLACK:
        raise Unprocessable(_TOO_MUCH)


def _check_properties(content: bytes, start: int, end: int) -> None:
    for kind, first, last in _boxes(content, start, end):
        if kind == b"ipco":
            profiles = [
                content[at + 4 : till]
                for box, at, till in _boxes(content, first, last)
                if box == b"colr" and content[at : at + 4] in (b"rICC", b"prof")
            ]
            if sum(map(len, profiles)) > 2 * MAX_ICC:
                raise Unprocessable(_TOO_MUCH)


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the body of each box of ISO base media."""
    at = start
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        stop = end if length == 0 else min(at + length, end)
        if stop < at + head:
            return
        yield kind, at + head, stop
        at = stop
    raise Unprocessable(_TOO_MUCH)


def _add_item_sizes(sizes: dict[int, int], content: bytes, start: int, end: int) -> None:
    """Add the bytes of each item in an `iloc` box, those of all its extents."""
    version = content[start]
    offset_size, length_size = content[start + 4] >> 4, content[start + 4] & 15
    base_size = content[start + 5] >> 4
    index_size = content[start + 5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    at = start + 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > end:
            raise IndexError
        return int.from_bytes(content[at - size : at], "big")

    extents = 0
    for _ in range(number(wide)):
        item = number(wide)
        number(2 * bool(version) + 2 + base_size)
        count = number(2)
        extents += count
        if len(sizes) > MAX_CHUNKS or extents > MAX_CHUNKS:
            raise Unprocessable(_TOO_MUCH)
        total = 0
        for _ in range(count):
            number(index_size + offset_size)
            # No length stands for the whole file.
            total += min(number(length_size) or len(content), len(content))
        sizes[item] = sizes.get(item, 0) + total


def _add_descriptions(counts: dict[int, int], content: bytes, start: int, end: int) -> None:
    """Add how many pictures each item describes (`cdsc`) by an `iref` box."""
    wide = 4 if content[start] else 2
    for kind, first, _ in _boxes(content, start + 4, end):
        if kind == b"cdsc":
            item = int.from_bytes(content[first : first + wide], "big")
            count = int.from_bytes(content[first + wide : first + wide + 2], "big")
            counts[item] = counts.get(item, 0) + count
