"""Pictures of strangers are opened in decoders: child processes that share nothing.

Each decoder belongs to one thread of this process, so that one that is stopped, killed or busy
holds up its own picture only. Waiting pictures are served round-robin by client.
"""

import atexit
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from PIL import Image

from .. import memory
from ..cpus import cpu_quota
from ..errors import GOING_DOWN, Busy, DamagedPicture, DemoError, Unprocessable
from ..fair_queue import FairQueue
from .decoder_process import Decoder
from .images import MAX_PIXELS

MAX_WORKERS = 8
"""Decoders at most, on however many cores: eight open 80 photos of 12 megapixels a second."""
SECONDS = 20.0
"""Seconds that one picture may take. The largest ordinary ones take three."""
WAIT_SECONDS = 30.0
"""Seconds that a picture waits for a decoder and for memory."""
LINE = 64
"""Pictures that wait at most."""
CLIENT_LINE = LINE // 4
"""Pictures of one client that wait at most."""
HELD_BYTES = 4 * MAX_PIXELS * 4
"""What decoded pictures, until they are let go, may take in all: four of the largest."""
MAX_LOST = 2  # decoders that may end before they have a picture, until it is given up
_START_SECONDS, _TICK = 60.0, 0.05
_FULL = "As many pictures are being opened here as fit into memory. Send this again in a moment."


class _Picture(Future[Image.Image]):
    """A picture that waits or is being opened, and its result."""

    def __init__(self, client: str, content: bytes, frame: bool):
        super().__init__()
        # Callers without a name are strangers to each other.
        self.client = client or f"unnamed {id(self)}"
        self.content = content
        self.frame = frame
        self.give_up = time.monotonic() + WAIT_SECONDS
        self.cost = 0
        """Bytes of its pixels; 0 until a decoder has found out."""
        self.deadline: float | None = None
        self.decoder: Decoder | None = None
        self.timed_out = False
        self.lost = 0
        """How many decoders ended before they had it."""


class _NoRoom(Exception):
    """The pixels of a picture do not fit into memory now."""


class _Lost(Exception):
    """The decoder had ended before it had the picture."""


class DecoderPool:
    """Opens pictures as `read_picture` does, where a hostile one only harms its decoder.

    Args:
        workers: Decoder processes; by default one for each core, from two to `MAX_WORKERS`.
        seconds: What one picture may take, by the clock and of processor time.
        line: Pictures that wait at most.
        client_line: Pictures of one client that wait at most.
        held_bytes: What all decoded pictures may take until they are let go. A client may hold
            half of it.
    """

    def __init__(
        self,
        workers: int | None = None,
        seconds: float = SECONDS,
        held_bytes: int = HELD_BYTES,
        *,
        line: int = LINE,
        client_line: int = CLIENT_LINE,
    ):
        self._workers = workers or max(2, min(cpu_quota(), MAX_WORKERS))
        self._line, self._client_line = line, client_line
        self._seconds = seconds
        self._max_bytes = held_bytes
        self._queue: FairQueue[_Picture] = FairQueue()
        # Never held while a method of the queue is called: the queue calls `_claim`.
        self._changed = threading.Condition()
        self._waiting: set[_Picture] = set()
        self._running: set[_Picture] = set()
        self._held: Counter[str] = Counter()
        self._let_go: SimpleQueue[tuple[str, int]] = SimpleQueue()
        self._decoders: set[Decoder] = set()
        self._ready = 0
        self._begun = False
        self._closed = False

    def start(self) -> None:
        """Have the decoders ready before the first picture comes; blocks until they are."""
        self._begin()
        with self._changed:
            self._changed.wait_for(
                lambda: self._ready >= self._workers or self._closed, _START_SECONDS
            )

    def submit(self, client: str, content: bytes, *, frame: bool = False) -> Future[Image.Image]:
        """Open a picture: upright, RGB, first frame.

        Args:
            client: Whose picture it is. Clients take turns, and each has a share of the line, the
                decoders and the memory. An empty name is a client of its own each time.
            content: A file.
            frame: Allow only what a live frame may be (`read_frame`).

        Returns:
            A future that can be cancelled. It raises what `read_picture` raises, Unprocessable if
            opening takes too long, DamagedPicture if it ended the decoder, and Busy if too many
            pictures wait or the pool is closed.
        """
        picture = _Picture(client, content, frame)
        self._begin()
        with self._changed:
            own = sum(waiting.client == picture.client for waiting in self._waiting)
            is_full = len(self._waiting) >= self._line or own >= self._client_line
            if not is_full:
                self._waiting.add(picture)
                self._changed.notify_all()
        if is_full:
            _settle(picture, error=Busy(_FULL))
        elif not self._queue.put(picture.client, picture):
            self._leave_line(picture)
            _settle(picture, error=Busy(GOING_DOWN))
        else:
            picture.add_done_callback(self._forget_cancelled)
        return picture

    def read(self, content: bytes, client: str = "") -> Image.Image:
        """Open a picture and wait for it; arguments and errors are those of `submit`."""
        return self.submit(client, content).result()

    def ahead(self, future: Future) -> int | None:
        """How many pictures come before this one; None if it does not wait."""
        return self._queue.ahead(future) if isinstance(future, _Picture) else None

    def limit_time(self, seconds: float) -> None:
        """From now on a picture has at most so many seconds, those under way included."""
        end = time.monotonic() + seconds
        with self._changed:
            self._seconds = min(self._seconds, seconds)
            for picture in self._waiting:
                picture.give_up = min(picture.give_up, end)
            for picture in self._running:
                picture.deadline = min(picture.deadline or end, end)

    def close(self) -> None:
        """Stop at once: what waits or is under way fails with Busy."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            decoders = list(self._decoders)
        for picture in self._queue.close():
            self._leave_line(picture)
            _settle(picture, error=Busy(GOING_DOWN))
        self._let_go.put(("", 0))
        for decoder in decoders:
            decoder.kill()
        end = time.monotonic() + 1
        for decoder in decoders:
            decoder.process.join(max(0, end - time.monotonic()))

    def _begin(self) -> None:
        with self._changed:
            if self._begun or self._closed:
                return
            self._begun = True
        atexit.register(self.close)
        targets = [self._serve] * self._workers + [self._keep_time, self._release]
        for target in targets:
            threading.Thread(target=target, name=f"decoders{target.__name__}", daemon=True).start()

    # The line

    def _claim(self, client: str, picture: _Picture) -> bool:
        """Whether the next decoder may open this picture; if so, its memory is reserved. The queue
        hands over exactly those pictures for which this is true."""
        with self._changed:
            running = sum(other.client == client for other in self._running)
            if running and running >= self._workers - 1:
                return False
            if picture.cost and not self._reserve(picture):
                return False
            self._waiting.discard(picture)
            self._running.add(picture)
            return True

    def _reserve(self, picture: _Picture) -> bool:
        with self._changed:
            own, total = self._held[picture.client], self._held.total()
            if own and own + picture.cost > self._max_bytes / 2:
                return False
            if total and total + picture.cost > self._max_bytes:
                return False
            self._held[picture.client] += picture.cost
            return True

    def _leave_line(self, picture: _Picture) -> None:
        with self._changed:
            self._waiting.discard(picture)

    def _forget_cancelled(self, picture: Future) -> None:
        assert isinstance(picture, _Picture)
        if picture.cancelled() and self._queue.remove(picture):
            self._leave_line(picture)
            picture.set_running_or_notify_cancel()

    def _wait_again(self, picture: _Picture) -> None:
        """Put a picture back that did not get the decoder or the memory it needs."""
        with self._changed:
            self._running.discard(picture)
            self._waiting.add(picture)
            picture.deadline = picture.decoder = None
        if not self._queue.put(picture.client, picture):
            self._leave_line(picture)
            _settle(picture, error=Busy(GOING_DOWN))
        elif picture.cancelled():
            self._forget_cancelled(picture)

    def _release(self) -> None:
        """Count pictures that were let go, and return their memory to the system."""
        while not self._closed:
            client, cost = self._let_go.get()
            pause = time.monotonic() + 1
            while True:
                with self._changed:
                    self._held[client] -= cost
                    if not self._held[client]:
                        del self._held[client]
                self._queue.wake()
                try:
                    client, cost = self._let_go.get(timeout=max(0, pause - time.monotonic()))
                except Empty:
                    break
                if self._closed:
                    return
            memory.trim()

    def _keep_time(self) -> None:
        """End what takes or waits too long."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._running or self._waiting)
                if self._closed:
                    return
            self._end_late()
            time.sleep(_TICK)

    def _end_late(self) -> None:
        now = time.monotonic()
        with self._changed:
            late = [picture for picture in self._waiting if now > picture.give_up]
            for picture in self._running:
                if picture.decoder and picture.deadline and now > picture.deadline:
                    picture.timed_out = True
                    picture.decoder.kill()
        for picture in late:
            if self._queue.remove(picture):
                self._leave_line(picture)
                _settle(picture, error=Busy(_FULL))

    # The decoders

    def _serve(self) -> None:
        """One thread: keeps one decoder, and hands it pictures."""
        decoder = self._new_decoder()
        with self._changed:
            self._ready += 1
            self._changed.notify_all()
        while taken := self._queue.take(self._claim):
            picture = taken[1]
            if decoder is None or not decoder.is_ready():
                self._discard(decoder)
                decoder = self._new_decoder()
            try:
                image = self._open(picture, decoder)
            except _NoRoom:
                self._wait_again(picture)
            except _Lost:
                self._discard(decoder)
                self._wait_again(picture)
                decoder = self._new_decoder()
            except DemoError as error:
                self._finish(picture, error=error)
            except Exception:  # it ended, or sends what it should not
                failure = self._what_ended(picture, decoder)
                self._discard(decoder)
                self._finish(picture, error=failure)
                decoder = self._new_decoder()
            else:
                self._finish(picture, image=image)
                del image
            del picture, taken
            self._queue.wake()  # its client may have another one opened
        self._discard(decoder)

    def _open(self, picture: _Picture, decoder: Decoder | None) -> Image.Image:
        if decoder is None:
            raise Busy("Pictures cannot be opened here now. Send this again in a moment.")
        with self._changed:
            seconds = self._seconds
            picture.decoder = decoder
            end = time.monotonic() + seconds
            picture.deadline = min(picture.deadline or end, end)
        reserved = picture.cost
        try:
            self._send(picture, decoder, seconds)
            width, height = decoder.receive_size()
            picture.cost = 4 * width * height  # Pillow keeps four bytes for each pixel
            if not reserved:
                if not self._reserve(picture):
                    decoder.drop()
                    raise _NoRoom
                reserved = picture.cost
            image = decoder.receive_pixels()
        except BaseException:
            if reserved:
                self._let_go.put((picture.client, reserved))
            raise
        released = weakref.finalize(image, self._let_go.put, (picture.client, reserved))
        released.atexit = False
        return image

    def _send(self, picture: _Picture, decoder: Decoder, seconds: float) -> None:
        try:
            decoder.send(picture.content, picture.frame, seconds)
        except (EOFError, OSError):
            picture.lost += 1
            if picture.timed_out or picture.lost > MAX_LOST:
                raise
            raise _Lost from None

    def _finish(
        self, picture: _Picture, image: Image.Image | None = None, error: Exception | None = None
    ) -> None:
        with self._changed:
            self._running.discard(picture)
            picture.decoder = None
        picture.content = b""
        _settle(picture, image, error)

    def _what_ended(self, picture: _Picture, decoder: Decoder | None) -> DemoError:
        if self._closed:
            return Busy(GOING_DOWN)
        if picture.timed_out or (decoder and decoder.used_up_its_time()):
            return Unprocessable(
                f"This picture takes longer than {self._seconds:.0f} seconds to open. Save it "
                "again as JPEG or PNG and send that."
            )
        return DamagedPicture(
            "This picture crashed its decoder, so it cannot be opened. Save it again as JPEG "
            "or PNG and send that."
        )

    def _new_decoder(self) -> Decoder | None:
        """A decoder that is ready; None if none could be started or the pool is closed."""
        try:
            decoder = Decoder()
        except OSError:
            return None
        with self._changed:
            self._decoders.add(decoder)
            closed = self._closed
        if not closed and decoder.wait_until_ready(_START_SECONDS):
            return decoder
        self._discard(decoder)
        return None

    def _discard(self, decoder: Decoder | None) -> None:
        if decoder:
            decoder.close()
            with self._changed:
                self._decoders.discard(decoder)


def _settle(
    picture: _Picture, image: Image.Image | None = None, error: Exception | None = None
) -> None:
    """Give a future its result, unless it was cancelled."""
    if picture.set_running_or_notify_cancel():
        if image is not None:
            picture.set_result(image)
        else:
            picture.set_exception(error)
