"""Small pictures whose metadata asks for much more time or memory than they are large."""

import io
import struct
import zlib
from collections.abc import Callable

import pillow_heif
from PIL import Image

TAGS = 4000
UNDEFINED, RATIONAL = 7, 5
PICTURE = [
    (256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
    (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 48), (279, 4, 1, 64 * 48),
]  # fmt: skip
"""Entries of a gray TIFF whose pixels lie anywhere."""

pillow_heif.register_heif_opener()


def directory(
    data_bytes: int,
    kind: int = UNDEFINED,
    first: list[tuple[int, int, int, int]] | None = None,
    is_big: bool = False,
) -> bytes:
    """A TIFF of one directory, `TAGS` entries of which share the same data."""
    first = first or []
    count = len(first) + TAGS
    if is_big:
        head, entry = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, count), "<HHQQ"
    else:
        head, entry = struct.pack("<2sHLH", b"II", 42, 8, count), "<HHLL"
    start = len(head) + struct.calcsize(entry) * count + 8
    values = data_bytes // (8 if kind == RATIONAL else 1)
    shared = [(20000 + number, kind, values, start) for number in range(TAGS)]
    table = b"".join(struct.pack(entry, *fields) for fields in first + shared)
    return head + table + bytes(8) + bytes(data_bytes)


def saved(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_with(*chunks: bytes) -> bytes:
    """A PNG with chunks before its pixels."""
    png = saved("PNG")
    return png[:33] + b"".join(chunks) + png[33:]


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_with(*segments: bytes) -> bytes:
    """A JPEG with segments before its picture."""
    return b"\xff\xd8" + b"".join(segments) + saved("JPEG")[2:]


def jpeg_exif(exif: bytes) -> bytes:
    """A JPEG whose EXIF is split over as many segments as it needs."""
    parts = [exif[at : at + 65000] for at in range(0, len(exif), 65000)]
    return jpeg_with(*(segment(0xE1, b"Exif\0\0" + part) for part in parts))


def raw_profile(exif: bytes) -> bytes:
    """A compressed text as ImageMagick writes EXIF into a PNG."""
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text, 9))


def with_exif(form: str, exif: bytes) -> bytes:
    """A picture of a format that Pillow can save, but not with EXIF that it cannot read."""
    empty = struct.pack("<2sHLHL", b"II", 42, 8, 0, 0).ljust(len(exif), b"\0")
    content = saved(form, exif=empty)
    assert content.count(empty) == 1
    return content.replace(empty, exif)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def shared_items(data_bytes: int, items: int = 900) -> bytes:
    """A HEIF whose items of EXIF are all the same bytes."""
    exif = struct.pack("<2sHLHL", b"II", 42, 8, 0, 0).ljust(data_bytes, b"\0")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48))).save(buffer, exif=exif)
    content = buffer.getvalue()
    at = content.index(b"meta") - 4
    end = at + struct.unpack_from(">I", content, at)[0]
    boxes: dict[bytes, bytes] = {}
    inner = at + 12
    while inner < end:
        length, kind = struct.unpack_from(">I4s", content, inner)
        boxes[kind] = content[inner + 8 : inner + length]
        inner += length
    assert boxes[b"iloc"][:8] == struct.pack(">IBBH", 0, 0x44, 0x40, 2)
    picture, metadata = struct.iter_unpack(">HHIHII", boxes[b"iloc"][8:])
    numbers = range(metadata[0], metadata[0] + items)
    infos = [_box(b"infe", struct.pack(">IHH4sB", 2 << 24, n, 0, b"Exif", 0)) for n in numbers]
    described = b"".join(_box(b"cdsc", struct.pack(">HHH", n, 1, picture[0])) for n in numbers)
    count = struct.pack(">IH", 0, 1 + items)
    first_info = boxes[b"iinf"][6 : 6 + struct.unpack_from(">I", boxes[b"iinf"], 6)[0]]
    boxes[b"iinf"] = count + first_info + b"".join(infos)
    boxes[b"iref"] = bytes(4) + described
    moved = 0
    for _ in range(2):  # where the data lie depends on how long this is
        table = [(picture[0], 0, 1, picture[4] + moved, picture[5])]
        table += [(n, 0, 1, metadata[4] + moved, metadata[5]) for n in numbers]
        places = b"".join(struct.pack(">HHHII", *entry) for entry in table)
        boxes[b"iloc"] = struct.pack(">IBBH", 0, 0x44, 0, 1 + items) + places
        meta = _box(b"meta", bytes(4) + b"".join(_box(*pair) for pair in boxes.items()))
        moved = len(meta) - (end - at)
    return content[:at] + meta + content[end:]


def profile_of_shared_elements(data_bytes: int) -> bytes:
    """An ICC profile with a tag whose 4,000 processing elements are the same bytes."""
    at, position = 144, 16 + 8 * TAGS
    elements = struct.pack(">4sIHHI", b"mpet", 0, 3, 3, TAGS)
    elements += struct.pack(">II", position, data_bytes) * TAGS + bytes(data_bytes)
    tags = struct.pack(">I4sII", 1, b"D2B0", at, len(elements))
    head = struct.pack(">I", at + len(elements)).ljust(36, b"\0") + b"acsp"
    return head.ljust(128, b"\0") + tags + elements


def _same_text(kind: bytes, name: bytes, count: int) -> bytes:
    """A PNG with many compressed texts of a megabyte each."""
    return png_with(chunk(kind, name + b"\0\0" + zlib.compress(bytes(2**20 - 1), 9)) * count)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG eXIf": lambda: png_with(chunk(b"eXIf", directory(1_000_000))),
    "PNG raw profile": lambda: png_with(raw_profile(directory(400_000))),
    "PNG color profiles": lambda: _same_text(b"iCCP", b"icc", 3000),
    "PNG texts without a name": lambda: _same_text(b"zTXt", b"", 3000),
    "PNG XMP": lambda: png_with(chunk(b"tEXt", b"XML:com.adobe.xmp\0" + b" " * 20_000_000)),
    "PNG ICC elements": lambda: png_with(
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile_of_shared_elements(900_000)))
    ),
    "JPEG APP1": lambda: jpeg_exif(directory(14_000)),
    "JPEG APP1 segments": lambda: jpeg_exif(directory(1_000_000)),
    "JPEG APP1 many segments": lambda: jpeg_exif(b"II*\0\x08\0\0\0\0\0" + bytes(40_000_000)),
    "JPEG MPF": lambda: jpeg_with(segment(0xE2, b"MPF\0" + directory(12_000, RATIONAL))),
    "JPEG ICC elements": lambda: saved("JPEG", icc_profile=profile_of_shared_elements(900_000)),
    "WebP EXIF": lambda: with_exif("WEBP", directory(1_000_000)),
    "WebP XMP": lambda: saved("WEBP", xmp=b" " * 20_000_000),
    "TIFF": lambda: directory(1_000_000, first=PICTURE),
    "BigTIFF": lambda: directory(1_000_000, first=PICTURE, is_big=True),
    "HEIF EXIF": lambda: with_exif("HEIF", directory(1_000_000)),
    "HEIF items": lambda: shared_items(1_000_000),
    "AVIF EXIF": lambda: with_exif("AVIF", directory(1_000_000)),
}
"""Functions that make a bomb of each kind."""
