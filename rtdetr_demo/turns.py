"""Who may use the device next, and how many may watch live."""

import threading
import time
from collections import deque
from types import TracebackType

from .errors import Busy


class Turns:
    """A lock that is handed on in the order of asking, so that nobody who waits is overtaken.

    A viewer asks again only when the frame before is answered, so that among viewers this order is
    round-robin.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class Viewers:
    """Live viewers: at most `limit`, each with one frame under way.

    A viewer who sends nothing for `patience` seconds has left.
    """

    def __init__(self, limit: int, patience: float = 5.0):
        self._limit = limit
        self._patience = patience
        self._guard = threading.Lock()
        self._seen: dict[str, float] = {}
        self._under_way: set[str] = set()

    def arrive(self, viewer: str) -> None:
        """A frame of this viewer begins. Raises Busy where there is no place for it."""
        now = time.monotonic()
        with self._guard:
            self._seen = {
                name: seen
                for name, seen in self._seen.items()
                if now - seen < self._patience or name in self._under_way
            }
            if viewer in self._under_way:
                raise Busy("This viewer's frame before is not answered yet: one at a time.")
            if viewer not in self._seen and len(self._seen) >= self._limit:
                raise Busy(
                    f"{self._limit} people are watching live, which is all that this machine "
                    "serves at once. This page tries again by itself."
                )
            self._seen[viewer] = now
            self._under_way.add(viewer)

    def leave(self, viewer: str) -> None:
        """The frame of this viewer is answered."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen[viewer] = time.monotonic()

    def __len__(self) -> int:
        return len(self._seen)
