"""What runs in a decoder: one child process that opens pictures for `decoder_pool.DecoderPool`.

Messages are bytes. The parent sends the limits of a picture (JSON), then its content. The child
answers with JSON: either `{"error", "message"}`, or `{"size", "note"}`. After a size the parent
says `TAKE` or `DROP`; after `TAKE` the pixels follow in bands of whole rows, RGB.
"""

import json
import math
import os
from multiprocessing.connection import Connection

from PIL import Image

from .. import memory
from ..children import settle_as_child
from ..errors import BadInput, TooLarge
from .images import read_frame, read_picture

DECODER_BYTES = 1536 * 2**20
"""Memory of one decoder: data, heap and stacks of its threads. 400 MB of it are reserved, not
used, by the libraries alone; a 50-megapixel picture of the costliest kind takes the rest."""
READY = b"ready"
BEGUN = b"begun"
TAKE = b"take"
DROP = b"drop"
_BAND_BYTES = 4 * 2**20
_TRIM_PIXELS = 4_000_000
_KEPT_BYTES = 32 * 2**20


def band_rows(width: int) -> int:
    """Rows of one band of a picture that is `width` pixels wide."""
    return max(1, _BAND_BYTES // (3 * width))


def serve_pictures(parent: Connection) -> None:
    """Open pictures until the parent is gone."""
    settle_as_child(data_bytes=DECODER_BYTES)
    memory.keep_freed(_KEPT_BYTES)
    try:
        parent.send_bytes(READY)
        while True:
            limits = json.loads(parent.recv_bytes())
            content = parent.recv_bytes()
            parent.send_bytes(BEGUN)
            _limit_cpu(limits["seconds"])
            pixels = answer(parent, content, limits["frame"])
            del content
            if pixels > _TRIM_PIXELS:
                memory.trim()
    except (EOFError, OSError):
        pass  # the parent is gone


def answer(parent: Connection, content: bytes, frame: bool) -> int:
    """Answer with one picture. Returns how many pixels it had."""
    try:
        image = read_frame(content) if frame else read_picture(content)
        note = image.info.get("note")
    except BadInput as error:
        _send(parent, {"error": type(error).__name__, "message": str(error)})
        return _TRIM_PIXELS + 1
    except MemoryError:
        message = "There is too little memory for this picture. Send a smaller one."
        _send(parent, {"error": TooLarge.__name__, "message": message})
        return _TRIM_PIXELS + 1
    width, height = image.size
    _send(parent, {"size": [width, height], "note": note})
    if parent.recv_bytes() == TAKE:
        _send_pixels(parent, image)
    return width * height


def _send_pixels(parent: Connection, image: Image.Image) -> None:
    width, height = image.size
    rows = band_rows(width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        parent.send_bytes(band.tobytes())


def _send(parent: Connection, answer: dict) -> None:
    parent.send_bytes(json.dumps(answer).encode())


def _limit_cpu(seconds: float) -> None:
    """Have the kernel end this process after so many seconds of work, also if its parent, which
    keeps the time otherwise, is gone."""
    if os.name != "posix":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
