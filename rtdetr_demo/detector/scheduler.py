"""A lock that is granted first come, first served."""

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """A mutex that is granted in the order of requests (FIFO).

    A live viewer requests it again only when the frame before is answered: among viewers FIFO is
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
