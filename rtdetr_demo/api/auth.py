"""Who asks, whether they may, and how much of it."""

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import Any

from gradio.context import LocalContext
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request

from ..errors import TooLarge, TooManyRequests
from ..settings import Settings
from ..zero_gpu import is_zero_gpu
from .errors import Refusal


@dataclass(frozen=True)
class Client:
    """`name` is what may be logged; limits hold for each of `accounts`."""

    name: str
    accounts: tuple[str, ...]


@dataclass
class RequestContext:
    """One request: its id, whose it is, and what the log says of it besides."""

    id: str
    client: Client = Client("nobody", ())
    facts: dict[str, Any] = field(default_factory=dict)


class Keys:
    """The operator's API keys, and what holds without any: see `Settings.api_access`."""

    def __init__(self, settings: Settings):
        self._digests = [_digest(key) for key in dict.fromkeys(settings.api_keys)]
        self.is_open = settings.api_access == "open"

    def describe(self) -> str:
        """One line for the log, which never shows a key."""
        if self._digests:
            return f"API: for the holders of {len(self._digests)} key(s)."
        if self.is_open:
            return "API: open to this machine, as no RTDETR_API_KEYS are set."
        return "API: closed, as no RTDETR_API_KEYS are set and others can reach it or log in."

    def client(
        self, authorization: str, address: str, is_here: bool = True, api_key: str = ""
    ) -> Client:
        """Who this is, by the headers `Authorization` and `X-API-Key`; `is_here`: whether the
        request comes from this machine.

        Raises Refusal (401) for whoever has no key and needs one.
        """
        if self.is_open and is_here:
            return Client(address, (f"address {address}",))
        if not self._digests:
            raise Refusal(
                401,
                "This API is closed: its operator has set no keys (RTDETR_API_KEYS). Without any "
                "it answers only on its own machine, through no proxy and without a login.",
                "api_closed",
            )
        key = sent_key(authorization, api_key)
        if not key:
            raise Refusal(
                401,
                "There is no API key in this request. Send it as `Authorization: Bearer KEY`, or "
                "as `X-API-Key: KEY`.",
                "missing_api_key",
            )
        number = self._number(key)
        if not number:
            raise Refusal(401, "This API key is not known here.", "invalid_api_key")
        return Client(f"key {number}", (f"key {number}", f"address {address}"))

    def has(self, key: str) -> bool:
        """Whether this is one of them."""
        return self._number(key) > 0

    def _number(self, key: str) -> int:
        """Which of them this is, from 1; 0 for none."""
        digest, number = _digest(key), 0
        # All of them, whichever fits: the time that it takes tells nothing.
        for i, known in enumerate(self._digests, start=1):
            number += i * hmac.compare_digest(known, digest)
        return number


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def sent_key(authorization: str, api_key: str) -> str:
    """The key in these headers, `Authorization: Bearer` before `X-API-Key`; "" for none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return api_key.strip()


class Rate:
    """At most `per_minute` pictures in any minute, for each key and each address; 0 is no limit."""

    def __init__(self, per_minute: int):
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._per_minute = per_minute
        self._hits = MovingWindowRateLimiter(MemoryStorage())

    def count(self, client: Client, pictures: int) -> None:
        """Count this many pictures of the client in the minute that ends now.

        Raises TooManyRequests where they are too many together with those before, and TooLarge
        where they alone are more than `per_minute`; neither is counted.
        """
        if self._limit is None:
            return
        if pictures > self._per_minute:
            raise TooLarge(f"Only {self._per_minute} pictures a minute are taken here.")
        for account in client.accounts:
            if not self._hits.test(self._limit, account, cost=pictures):
                until, _ = self._hits.get_window_stats(self._limit, account)
                raise TooManyRequests(
                    f"More than {self._per_minute} pictures in a minute are not taken from one "
                    "client. Wait, and send this again.",
                    max(until - time.time(), 1.0),
                )
        for account in client.accounts:
            self._hits.hit(self._limit, account, cost=pictures)


def set_zero_gpu_visitor(request: Request) -> None:
    """On a ZeroGPU Space, have the GPU time of this context charged to the request's visitor.

    The visitor is told by the header `X-IP-Token`, which the Hub sets; without it the time is
    charged to the Space. For its own routes Gradio does this itself.
    """
    if is_zero_gpu():
        LocalContext.request.set(request)  # type: ignore[arg-type]
