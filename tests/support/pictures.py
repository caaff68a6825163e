"""Pictures made for tests, and pictures and addresses that must be refused."""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BAD_PICTURES = {
    "empty file": b"",
    "one byte": b"\xff",
    "text named jpg": b"Dear Sir or Madam, this is a letter." * 20,
    "JSON": b'{"image": "none"}',
    "HTML": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "HTML with blanks before": b"\n\n  <html><head></head></html>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
    "SVG with XML head": b'<?xml version="1.0"?><svg width="9" height="9"/>',
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "ZIP": b"PK\x03\x04" + os.urandom(200),
    "ELF": b"\x7fELF" + os.urandom(200),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "MP4": b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" + os.urandom(200),
    "random bytes": np.random.default_rng(0).bytes(5000),
    "ICO with a bomb inside": b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0"
    + struct.pack("<II", len(png_header(20000, 20000)), 22)
    + png_header(20000, 20000),
    "JPEG head only": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "JPEG cut in half": encoded(gradient(), "JPEG")[:400],
    "PNG cut in half": encoded(gradient(800, 600), "PNG")[:900],
    "PNG with broken data": png_header(200, 200)[:60] + os.urandom(100),
    "WebP cut": encoded(gradient(400, 400), "WEBP")[:120],
    "GIF cut": encoded(gradient().quantize(16), "GIF")[:40],
    "TIFF cut": encoded(gradient(), "TIFF")[:100],
    "HEIC head only": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + os.urandom(64),
    "PNG with too little data": png_header(5000, 5000),
    "decompression bomb": png_header(60000, 60000),
    "decompression bomb, one side": png_header(2_000_000_000, 1),
    "51 megapixels": png_header(8500, 6001),
    "BMP that claims 4 gigapixels": b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 65535, 65535, 1, 24, 0, 0, 0, 0, 0, 0
    ),
}  # fmt: skip

BAD_URLS = [
    "",
    "photo.jpg",
    "ftp://example.com/photo.jpg",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "http://",
    "https:///photo.jpg",
    "http://[::1",
    "http://user:secret@example.com/photo.jpg",
    "http://example.com:99999/photo.jpg",
    "http://127.0.0.1/photo.jpg",
    "http://127.0.0.1:7860/config",
    "http://localhost/photo.jpg",
    "http://LOCALHOST./photo.jpg",
    "http://[::1]/photo.jpg",
    "http://[::]/photo.jpg",
    "http://0.0.0.0/photo.jpg",
    "http://2130706433/photo.jpg",
    "http://0x7f000001/photo.jpg",
    "http://0177.0.0.1/photo.jpg",
    "http://127.1/photo.jpg",
    "http://10.0.0.1/photo.jpg",
    "http://192.168.1.1/photo.jpg",
    "http://172.16.0.1/photo.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://[fe80::1]/photo.jpg",
    "http://[fd00:ec2::254]/photo.jpg",
    "http://[::ffff:127.0.0.1]/photo.jpg",
    "http://[::ffff:169.254.169.254]/photo.jpg",
    "http://[64:ff9b::7f00:1]/photo.jpg",
    "http://[2002:7f00:1::]/photo.jpg",
    "http://224.0.0.1/photo.jpg",
    "http://168.63.129.16/photo.jpg",
    "http://[fec0::1]/photo.jpg",
    "http://8.8.8.8/a\x01",
    "http://8.8.8.8/\x7f",
    "http://255.255.255.255/photo.jpg",
    "http://no-such-host.invalid/photo.jpg",
    "http://" + "a" * 300 + ".com/photo.jpg",
    "https://example.com/" + "a" * 5000,
]
