"""How many pictures a server takes on at once."""

import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .. import metrics
from ..errors import GOING_DOWN, Busy, TooLarge, TooManyRequests


class Admission:
    """Bounds the pictures that are under way, in all and for each client.

    Args:
        capacity: Most pictures at once.
        share: Most of these for one client.
    """

    def __init__(self, capacity: int, share: int):
        self.capacity = capacity
        self.share = share
        self._changed = threading.Condition()
        self._total = 0
        self._held: Counter[str] = Counter()
        self._mean_seconds = 0.1
        self._closed = False

    @contextmanager
    def admit(self, clients: Sequence[str], count: int = 1) -> Iterator[None]:
        """Count `count` pictures against each of `clients` for the duration of the block.

        Raises:
            TooManyRequests: They do not fit now.
            TooLarge: They never fit.
            Busy: The server is going down.
        """
        limit = min(self.share, self.capacity)
        if count > limit:
            raise TooLarge(f"One request takes {limit} pictures here. Send the others in another.")
        with self._changed:
            if self._closed:
                raise Busy(GOING_DOWN)
            full = self._total + count > self.capacity
            if full or any(self._held[client] + count > self.share for client in clients):
                wait = min(max(self._total * self._mean_seconds, 1.0), 30.0)
                raise TooManyRequests(
                    f"The queue is full. Try again in {math.ceil(wait)} s.",
                    wait,
                )
            self._total += count
            self._held.update(dict.fromkeys(clients, count))
        metrics.QUEUE_PICTURES.inc(count)
        try:
            yield
        finally:
            metrics.QUEUE_PICTURES.dec(count)
            with self._changed:
                self._total -= count
                self._held.subtract(dict.fromkeys(clients, count))
                self._held += Counter()  # forgets clients that hold nothing
                self._changed.notify_all()

    def record(self, seconds: float) -> None:
        """Account for what one picture took on the device, for the estimate of a wait."""
        with self._changed:
            self._mean_seconds += 0.1 * (seconds - self._mean_seconds)

    def close(self) -> None:
        """Refuse further pictures."""
        with self._changed:
            self._closed = True
