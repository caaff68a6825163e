"""A client of the camera's WebSocket."""

import io
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image
from websockets.sync.client import ClientConnection, connect

from tests.support.app import App
from tests.support.paths import EXAMPLES

GOOD = {"frame": 1, "checkpoint": "", "decoder_layers": 6}


def picture(offset: int = 0) -> bytes:
    """A camera frame as the page sends it: a 640x480 JPEG."""
    buffer = io.BytesIO()
    with Image.open(EXAMPLES / "musicians.jpg") as photo:
        photo.crop((offset, 0, 640 + offset, 480)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def message(content: bytes | None = None, **changes: object) -> bytes:
    header = json.dumps({**GOOD, **changes}).encode()
    return struct.pack(">H", len(header)) + header + (picture() if content is None else content)


@contextmanager
def watching(app: App, **options: object) -> Iterator[Callable[[bytes], dict]]:
    """A viewer who sends a message and waits for its answer."""
    with opened(app, **options) as socket:

        def ask(content: bytes) -> dict:
            socket.send(content)
            return json.loads(socket.recv(timeout=30))

        yield ask


@contextmanager
def opened(app: App, **options: object) -> Iterator[ClientConnection]:
    with connect(app.url.replace("http", "ws") + "/frames", **options) as socket:
        greeting = json.loads(socket.recv(timeout=30))
        assert len(greeting["viewer"]) >= 8
        yield socket
