"""How many visitors may watch live at once."""

import threading
import time

from ..errors import Busy


class ViewerLimiter:
    """Live viewers: at most `limit`, a quarter of them from one address, each with one frame under
    way.

    A viewer who sends nothing for `idle_seconds` has left.
    """

    def __init__(self, limit: int, idle_seconds: float = 5.0):
        self._limit = limit
        self._share = max(1, limit // 4)
        self._idle_seconds = idle_seconds
        self._guard = threading.Lock()
        self._seen: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._addresses: dict[str, str | None] = {}

    def begin_frame(self, viewer: str, address: str | None = None) -> None:
        """Register a frame of this viewer, at `address` (None: this machine), as under way.

        Raises Busy where the viewer's frame before is not answered, or the limit is reached.
        """
        now = time.monotonic()
        with self._guard:
            self._seen = {
                name: seen
                for name, seen in self._seen.items()
                if now - seen < self._idle_seconds or name in self._under_way
            }
            if viewer in self._under_way:
                raise Busy("The previous frame is still being processed.")
            if viewer not in self._seen and len(self._seen) >= self._limit:
                raise Busy(
                    f"{self._limit} people are watching live, which is all that this machine "
                    "supports at once. This page retries automatically."
                )
            self._addresses = {name: self._addresses.get(name) for name in self._seen}
            neighbours = sum(one == address for one in self._addresses.values())
            if address and viewer not in self._seen and neighbours >= self._share:
                raise Busy(
                    f"{neighbours} people are watching live from your address, the maximum. "
                    "This page retries automatically."
                )
            self._seen[viewer] = now
            self._addresses[viewer] = address
            self._under_way.add(viewer)

    def end_frame(self, viewer: str) -> None:
        """Register that this viewer's frame is answered."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen[viewer] = time.monotonic()

    def remove_viewer(self, viewer: str) -> None:
        """Remove this viewer, without waiting for `idle_seconds`."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen.pop(viewer, None)

    def __len__(self) -> int:
        return len(self._seen)
