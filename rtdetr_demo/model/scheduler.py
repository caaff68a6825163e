"""Who may use the device next, and how many may watch live."""

import threading
from collections import deque
from types import TracebackType


class FairLock:
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


DEVICE_LOCK = FairLock()
"""One pass at a time, whatever the model: two at once on one device only slow each other down."""
