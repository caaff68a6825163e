"""Foreign pictures are decoded in child processes: few at once, each with a deadline."""

import atexit
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress

from pebble import ProcessExpired, ProcessPool
from PIL import Image

from .. import memory
from ..children import child_context, settle_as_child
from ..errors import GOING_DOWN, Busy, DamagedPicture, Unprocessable
from .images import MAX_PIXELS, read_picture

WORKERS = 3
DEADLINE = 20.0
"""Seconds that one picture may take. The largest ordinary ones take three."""
DECODE_QUEUE_TIMEOUT = 30.0
"""Seconds that a picture waits for its turn."""
LINE = 64
"""Pictures that wait for their turn at most."""
WORKER_BYTES = 4 * 2**30
HELD_BYTES = 4 * MAX_PIXELS * 4
"""What decoded pictures, until they are let go, may take in all: four of the largest."""

_FULL = "As many pictures are being opened here as fit into memory. Send this again in a moment."


class DecoderPool:
    """Opens pictures as `read_picture` does, where a hostile one can only bring down its worker."""

    def __init__(
        self, workers: int = WORKERS, deadline: float = DEADLINE, held_bytes: int = HELD_BYTES
    ):
        self._deadline = deadline
        self._max_bytes = held_bytes
        self._held = 0
        self._waiting = 0
        self._changed = threading.Condition()
        self._slots = threading.BoundedSemaphore(workers)
        self._workers = workers
        self._closed = False
        self._pool = self._make()
        self._under_way: set[Future] = set()
        self._freed = threading.Event()
        atexit.register(self.close)
        threading.Thread(target=self._give_memory_back, name="trim", daemon=True).start()

    def _make(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._workers,
            initializer=settle_as_child,
            initargs=(WORKER_BYTES,),
            context=child_context(),
        )

    def start(self) -> None:
        """Have the workers ready before the first picture comes."""
        with suppress(RuntimeError, CancelledError):
            self._pool.schedule(_warm_up).result()

    def read(self, content: bytes) -> Image.Image:
        """Decode a picture: upright, RGB, first frame.

        Raises what `read_picture` raises, Unprocessable where it takes too long, and Busy where it
        is not this picture's turn in time.
        """
        with self._changed:
            if self._waiting >= LINE:
                raise Busy(_FULL)
            self._waiting += 1
        try:
            if not self._slots.acquire(timeout=DECODE_QUEUE_TIMEOUT):
                raise Busy(_FULL)
        finally:
            with self._changed:
                self._waiting -= 1
        try:
            size, pixels = self._decode(content)
            cost = 4 * size[0] * size[1]  # Pillow gives a pixel four bytes
            self._hold(cost)
            try:
                image = Image.frombytes("RGB", size, pixels)
                weakref.finalize(image, self._let_go, cost)
            except BaseException:
                self._let_go(cost)
                raise
            return image
        finally:
            self._slots.release()

    def submit(self, client: str, content: bytes, *, frame: bool = False):
        from concurrent.futures import ThreadPoolExecutor

        if not hasattr(self, "_shim"):
            self._shim = ThreadPoolExecutor(3)
        return self._shim.submit(self.read, content)

    def ahead(self, future):
        return None

    def limit_time(self, seconds: float) -> None:
        self.hurry(seconds)

    def hurry(self, seconds: float) -> None:
        """From now on a picture has so many seconds, those that are under way included."""
        self._deadline = min(self._deadline, seconds)
        for opening in list(self._under_way):
            last_call = threading.Timer(seconds, opening.cancel)
            last_call.daemon = True
            last_call.start()

    def close(self) -> None:
        """Stop at once."""
        self._closed = True
        self._pool.stop()
        self._pool.join()

    def _decode(self, content: bytes) -> tuple[tuple[int, int], bytes]:
        with self._changed:
            if not self._closed and not self._pool.active:
                self._pool = self._make()  # it gives itself up when a worker is beyond repair
        try:
            opening = self._pool.schedule(_decode, [content], timeout=self._deadline)
            self._under_way.add(opening)
            try:
                return opening.result()
            finally:
                self._under_way.discard(opening)
        except FutureTimeout:
            raise Unprocessable(
                f"This picture takes longer than {self._deadline:.0f} seconds to open. Save it "
                "anew as JPEG or PNG and send that."
            ) from None
        except ProcessExpired:
            raise DamagedPicture(
                "This picture brought its decoder down, so it cannot be opened. Save it anew as "
                "JPEG or PNG and send that."
            ) from None
        except (CancelledError, RuntimeError):
            raise Busy(GOING_DOWN) from None

    def _hold(self, cost: int) -> None:
        with self._changed:
            fits = self._changed.wait_for(
                lambda: not self._held or self._held + cost <= self._max_bytes, DECODE_QUEUE_TIMEOUT
            )
            if not fits:
                raise Busy(_FULL)
            self._held += cost

    def _let_go(self, cost: int) -> None:
        with self._changed:
            self._held -= cost
            self._changed.notify_all()
        self._freed.set()

    def _give_memory_back(self) -> None:
        while True:
            self._freed.wait()
            time.sleep(1)
            self._freed.clear()
            memory.trim()


def _warm_up() -> None:
    """Nothing: a worker that has run it has started, and imported this module."""


def _decode(content: bytes) -> tuple[tuple[int, int], bytes]:
    image = read_picture(content)
    answer = image.size, image.tobytes()
    del image
    memory.trim()
    return answer
