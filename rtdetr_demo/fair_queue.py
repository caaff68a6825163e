"""A queue that serves its clients in turns."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def _always(client: str, item: object) -> bool:
    return True


class FairQueue(Generic[T]):
    """A thread-safe queue that serves clients round-robin, and each client's items in order.

    However many items one client adds, another client's first item waits for at most one item of
    every other client. Items are compared by identity.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._closed = False

    def put(self, client: str, item: T) -> bool:
        """Append an item to those of a client. Returns False, and keeps nothing, once closed."""
        with self._changed:
            if self._closed:
                return False
            self._waiting.setdefault(client, deque()).append(item)
            self._changed.notify_all()
            return True

    def take(
        self, fits: Callable[[str, T], bool] = _always, timeout: float | None = None
    ) -> tuple[str, T] | None:
        """Remove and return the next client and item, waiting for one if necessary.

        Args:
            fits: Whether an item may be taken now. A client whose first item does not fit is
                passed over and keeps its turn. Call `wake` when the answer may have changed.
            timeout: Seconds to wait; None waits without a limit.

        Returns:
            None after `timeout`, or once the queue is closed and holds nothing that fits.
        """
        with self._changed:
            taken: tuple[str, T] | None = None

            def is_over() -> bool:
                nonlocal taken
                taken = self._pop(fits)
                return taken is not None or self._closed

            self._changed.wait_for(is_over, timeout)
            return taken

    def take_alike(self, limit: int, is_alike: Callable[[T], bool]) -> list[T]:
        """Remove and return up to `limit` first items of clients that are alike, without waiting.

        Clients take turns here, too: one item of each before a second of any.
        """
        items: list[T] = []
        with self._changed:
            while len(items) < limit:
                taken = self._pop(lambda _, item: is_alike(item))
                if taken is None:
                    break
                items.append(taken[1])
        return items

    def remove(self, item: T) -> bool:
        """Remove an item that waits. Returns whether it was waiting."""
        with self._changed:
            for client, items in self._waiting.items():
                for index, waiting in enumerate(items):
                    if waiting is item:
                        del items[index]
                        if not items:
                            del self._waiting[client]
                        self._changed.notify_all()
                        return True
        return False

    def ahead(self, item: T) -> int | None:
        """How many items will be served before this one; None if it is not waiting."""
        with self._changed:
            for place, (client, items) in enumerate(self._waiting.items()):
                for position, waiting in enumerate(items):
                    if waiting is item:
                        return position + sum(
                            min(len(others), position + (other_place < place))
                            for other_place, (other, others) in enumerate(self._waiting.items())
                            if other != client
                        )
        return None

    def wake(self) -> None:
        """Have every `take` that waits look at the queue again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> list[T]:
        """Refuse further items, end every `take` that waits, and return what was waiting."""
        with self._changed:
            self._closed = True
            items = [item for waiting in self._waiting.values() for item in waiting]
            self._waiting.clear()
            self._changed.notify_all()
        return items

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def _pop(self, fits: Callable[[str, T], bool]) -> tuple[str, T] | None:
        for client, items in self._waiting.items():
            if fits(client, items[0]):
                item = items.popleft()
                del self._waiting[client]
                if items:
                    self._waiting[client] = items  # behind every other client
                return client, item
        return None
