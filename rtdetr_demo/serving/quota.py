"""How much of the disk visitors' files may take: in all, and each visitor's."""

from collections import Counter, OrderedDict

OWN_SHARE = 0.25
"""Share of what is kept for all visitors that may be one visitor's."""


class Quota:
    """Keeps the sizes of what is held, and says what must go.

    The owner of the newest item loses their oldest ones where theirs take more than `OWN_SHARE` of
    either limit; then the oldest of all go. The newest item stays. Not thread-safe.

    Args:
        max_bytes: Most bytes of all items.
        max_count: Most items.
    """

    def __init__(self, max_bytes: float, max_count: float = float("inf")):
        self._max_bytes, self._max_count = max_bytes, max_count
        self._items: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._bytes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._total = 0

    def add(self, name: str, owner: str, size: int) -> None:
        """Count a new item, of `size` bytes."""
        self._items[name] = (owner, size)
        self._bytes[owner] += size
        self._counts[owner] += 1
        self._total += size

    def grow(self, name: str, size: int) -> None:
        """Count `size` bytes more of an item; nothing if it is gone."""
        if name in self._items:
            owner, before = self._items[name]
            self._items[name] = (owner, before + size)
            self._bytes[owner] += size
            self._total += size

    def remove(self, name: str) -> None:
        """Forget an item; nothing if it is gone."""
        owner, size = self._items.pop(name, ("", 0))
        self._bytes -= Counter({owner: size})
        self._counts -= Counter({owner: 1})
        self._total -= size

    def excess(self) -> list[str]:
        """Forget what must go to keep within the limits, and return its names, oldest first."""
        if not self._items:
            return []
        gone: list[str] = []
        owner = next(reversed(self._items.values()))[0]
        mine = [name for name, (other, _) in self._items.items() if other == owner]
        for name in mine[:-1]:
            if not self._is_past(self._bytes[owner], self._counts[owner], OWN_SHARE):
                break
            self.remove(name)
            gone.append(name)
        while len(self._items) > 1 and self._is_past(self._total, len(self._items), 1.0):
            oldest = next(iter(self._items))
            self.remove(oldest)
            gone.append(oldest)
        return gone

    def _is_past(self, size: float, count: float, share: float) -> bool:
        return size > share * self._max_bytes or count > share * self._max_count
