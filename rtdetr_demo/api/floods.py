"""Limits on what requests that are refused anyway may cost: their rate, their pauses, their log."""

import asyncio
import ipaddress
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import DemoError, TooManyRequests
from .auth import Keys
from .forwarding import is_direct

REQUESTS_PER_SECOND = 100.0
BURST = 400.0
"""Requests of one address: in a second over a longer time, and at once."""

OPERATION_PER_SECOND = 20.0
OPERATION_BURST = 60.0
"""The same for `OPERATION_PATHS`."""

OPERATION_PATHS = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")

PAUSE_SECONDS = 0.5
MAX_PAUSED = 64
"""Requests of one address that are paused at once."""

MAX_ADDRESSES = 20_000
LOG_LINES_PER_SECOND = 10

log = logging.getLogger(__name__)


class Flood(TooManyRequests):
    """A request of an address that has too many others waiting; its connection is closed."""

    def __init__(self) -> None:
        super().__init__("Too many requests come from this address. Send fewer.", 1.0)


class RequestRate:
    """A token bucket for each address; an IPv6 address counts as its /64 network.

    At most `MAX_ADDRESSES` buckets are kept. The one that was used least recently is dropped first.
    """

    def __init__(self, per_second: float = REQUESTS_PER_SECOND, burst: float = BURST):
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, address: str) -> bool:
        """Take a token for a request of the address. False if there is none."""
        network = _network(address)
        now = time.monotonic()
        tokens, then = self._buckets.get(network, (self._burst, now))
        tokens = min(tokens + (now - then) * self._per_second, self._burst)
        is_admitted = tokens >= 1
        self._buckets[network] = (tokens - is_admitted, now)
        self._buckets.move_to_end(network)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return is_admitted


class Pauses:
    """Delays refusals, so that a client that waits for each answer cannot send many requests."""

    def __init__(self) -> None:
        self._paused: Counter[str] = Counter()

    async def wait(self, address: str) -> None:
        """Return after `PAUSE_SECONDS`.

        Raises Flood, at once, if `MAX_PAUSED` requests of the address are waiting.
        """
        network = _network(address)
        if self._paused[network] >= MAX_PAUSED:
            raise Flood
        self._paused[network] += 1
        try:
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._paused[network] -= 1
            if not self._paused[network]:
                del self._paused[network]


class LogSampler:
    """Admits `LOG_LINES_PER_SECOND` lines to a log in each second.

    If there were more, `log_count` is called with the number left out when the second is over. Must
    be used on the event loop.
    """

    def __init__(self, log_count: Callable[[int], None]):
        self._log_count = log_count
        self._until = 0.0
        self._lines = 0

    def admits(self) -> bool:
        """Count a line, and return whether it is to be written."""
        now = time.monotonic()
        if now >= self._until and self._lines <= LOG_LINES_PER_SECOND:
            self._until, self._lines = now + 1, 0
        self._lines += 1
        if self._lines == LOG_LINES_PER_SECOND + 1:
            asyncio.get_running_loop().call_later(max(self._until - now, 0), self._end)
        return self._lines <= LOG_LINES_PER_SECOND

    def _end(self) -> None:
        left_out, self._lines = self._lines - LOG_LINES_PER_SECOND, 0
        self._until = time.monotonic() + 1
        self._log_count(left_out)


class RateMiddleware:
    """ASGI middleware that limits the rate of requests of each address: see `RequestRate`.

    A request past the limit waits for `PAUSE_SECONDS`, and is refused (429) if it is still past the
    limit. If too many of the address wait, it is refused at once and its connection is closed.
    Requests that the API accepts, by a key or as this machine's own, are not limited here.
    """

    def __init__(self, app: ASGIApp, keys: Keys):
        self._app = app
        self._keys = keys
        self._rate = RequestRate()
        self._operation_rate = RequestRate(OPERATION_PER_SECOND, OPERATION_BURST)
        self._pauses = Pauses()
        self._sampler = LogSampler(lambda count: log.warning("%d lines like these", count))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("unknown", 0))[0]
        rate = self._operation_rate if scope["path"] in OPERATION_PATHS else self._rate
        if not rate.admits(address) and not self._is_accepted(scope, address):
            try:
                await self._pauses.wait(address)
                if not rate.admits(address):
                    raise Flood
            except Flood as error:
                if self._sampler.admits():
                    log.warning("refused a request of %s: too many in a second", address)
                await _refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_accepted(self, scope: Scope, address: str) -> bool:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return False
        headers = Headers(scope=scope)
        try:
            self._keys.client(
                headers.get("authorization", ""),
                address,
                is_direct(scope),
                headers.get("x-api-key", ""),
            )
        except DemoError:
            return False
        return True


async def _refuse(error: DemoError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1013})
        return
    headers = {"Retry-After": "1", "Connection": "close"}
    await JSONResponse({"detail": str(error)}, error.status, headers)(scope, receive, send)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
