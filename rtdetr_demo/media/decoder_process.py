"""A decoder: one child process that opens pictures for `decoder_pool.DecoderPool`.

Messages are bytes. The parent sends the limits of a picture (JSON), then its content. The child
answers with JSON: either `{"error", "message"}`, or `{"size", "note"}`. After a size the parent
says `TAKE` or `DROP`; after `TAKE` the pixels follow in bands of whole rows, RGB.
"""

import json
import math
import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection

from PIL import Image

from .. import errors, memory
from ..children import child_context, settle_as_child
from ..errors import BadInput, TooLarge
from .images import MAX_PIXELS, read_frame, read_picture

DECODER_BYTES = 1536 * 2**20
"""Memory of one decoder: data, heap and stacks of its threads. 400 MB of it are reserved, not
used, by the libraries alone; a 50-megapixel picture of the costliest kind takes the rest."""
READY = b"ready"
BEGUN = b"begun"
TAKE = b"take"
DROP = b"drop"
_ANSWER_BYTES = 64 * 2**10
_BAND_BYTES = 4 * 2**20
_TRIM_PIXELS = 4_000_000
_KEPT_BYTES = 32 * 2**20


class Decoder:
    """A child process and the pipe to it, as the parent sees them.

    What waits for the child ends with EOFError or OSError when the child has ended. Nothing that
    it sends is trusted.

    Raises:
        OSError: The child cannot be started.
    """

    def __init__(self) -> None:
        context = child_context()
        self._pipe, child_end = context.Pipe()
        self._size = (0, 0)
        self._note: str | None = None
        self.process = context.Process(
            target=serve_pictures, args=(child_end,), name="decoder", daemon=True
        )
        try:
            self.process.start()
        except EOFError as error:
            raise OSError("the process that starts decoders has ended") from error
        finally:
            child_end.close()  # so that the end of the child is the end of the pipe

    def wait_until_ready(self, seconds: float) -> bool:
        """Whether the child has started within so many seconds."""
        try:
            return self._pipe.poll(seconds) and self._pipe.recv_bytes() == READY
        except (EOFError, OSError):
            return False

    def is_ready(self) -> bool:
        """Whether it waits for a picture. One that has ended closed its end of the pipe."""
        try:
            return self.process.is_alive() and not self._pipe.poll()
        except OSError:
            return False

    def send(self, content: bytes, frame: bool, seconds: float) -> None:
        """Hand over a picture; returns when the child has all of it."""
        limits = {"frame": frame, "seconds": seconds}
        self._pipe.send_bytes(json.dumps(limits).encode())
        self._pipe.send_bytes(content)
        self._pipe.recv_bytes(len(BEGUN))

    def receive_size(self) -> tuple[int, int]:
        """Width and height of the opened picture, whose pixels wait in the child.

        Raises:
            BadInput: The picture was refused.
            ValueError: The child does not do what it should.
        """
        answer = json.loads(self._pipe.recv_bytes(_ANSWER_BYTES))
        if "error" in answer:
            refusal = getattr(errors, answer["error"], None)
            if not (isinstance(refusal, type) and issubclass(refusal, BadInput)):
                raise ValueError("not an error of a picture")
            raise refusal(str(answer["message"]))
        width, height = map(int, answer["size"])
        if min(width, height) < 1 or width * height > MAX_PIXELS:
            raise ValueError("not the size of a picture")
        self._size = width, height
        self._note = answer["note"]
        return self._size

    def receive_pixels(self) -> Image.Image:
        """The picture whose size was received last. Raises ValueError as `receive_size` does."""
        self._pipe.send_bytes(TAKE)
        width, height = self._size
        image = Image.new("RGB", self._size)
        rows = _band_rows(width)
        for top in range(0, height, rows):
            size = width, min(rows, height - top)
            pixels = self._pipe.recv_bytes(3 * width * rows)
            image.paste(Image.frombytes("RGB", size, pixels), (0, top))
        if self._note:
            image.info["note"] = str(self._note)
        return image

    def drop(self) -> None:
        """Have the child forget the picture whose size was received last."""
        self._pipe.send_bytes(DROP)

    def used_up_its_time(self) -> bool:
        """Whether the kernel ended it for the processor time that it took."""
        self.process.join(1)
        return os.name == "posix" and self.process.exitcode == -signal.SIGXCPU

    def kill(self) -> None:
        """End it at once, also if it is stopped."""
        with suppress(OSError, ValueError):
            self.process.kill()

    def close(self) -> None:
        """End it and close the pipe."""
        self.kill()
        self._pipe.close()
        self.process.join(1)


# What runs in the child


def _band_rows(width: int) -> int:
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
    """Open one picture and answer. Returns how many pixels it had."""
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
    rows = _band_rows(width)
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
