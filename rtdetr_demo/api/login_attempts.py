"""Limits on failed logins."""

import logging
import time
from collections.abc import Callable

from cachetools import TTLCache

from ..errors import TooManyRequests

FREE_FAILURES = 5
"""Failed logins of an address, or with a user name, before the next one has to wait."""

FIRST_DELAY, MAX_DELAY = 4.0, 30.0
"""Seconds; the delay doubles with each failure."""

FAILURE_SECONDS = 0.5
"""How long the answer to a failed login is held back."""

_FORGET_SECONDS = 900.0
_CAPACITY = 10_000

log = logging.getLogger(__name__)


class LoginAttempts:
    """Counts failed logins by address and by user name. Not thread-safe.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._addresses = _Failures(clock)
        self._names = _Failures(clock)
        self._logged = float("-inf")
        self._unlogged = 0

    def begin(self, address: str, name: str) -> None:
        """Count an attempt as failed until `succeed` is called.

        Raises TooManyRequests where an attempt is not taken yet; it is not counted then.
        """
        wait = max(self._addresses.wait(address), self._names.wait(name))
        if wait > 0:
            raise TooManyRequests(
                "Too many failed logins. Wait, then log in again.", max(wait, 1.0)
            )
        self._addresses.add(address)
        self._names.add(name)

    def succeed(self, address: str, name: str) -> None:
        """Forget the failures of an address and of a user name."""
        self._addresses.remove(address)
        self._names.remove(name)

    def log_failure(self, address: str) -> None:
        """Log a failed login; at most one line per second, with the number of failures since."""
        self._unlogged += 1
        if self._clock() - self._logged >= 1:
            log.warning("%d failed login(s), the last one from %s", self._unlogged, address)
            self._logged, self._unlogged = self._clock(), 0


class _Failures:
    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._counts: TTLCache[str, tuple[int, float]] = TTLCache(
            _CAPACITY, _FORGET_SECONDS, timer=clock
        )

    def wait(self, key: str) -> float:
        """Seconds until the next attempt is taken; 0 or less: at once."""
        count, last = self._counts.get(key, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        return last + min(FIRST_DELAY * 2 ** (count - FREE_FAILURES), MAX_DELAY) - self._clock()

    def add(self, key: str) -> None:
        count = self._counts.get(key, (0, 0.0))[0]
        self._counts[key] = (min(count + 1, 100), self._clock())

    def remove(self, key: str) -> None:
        self._counts.pop(key, None)
