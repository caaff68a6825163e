"""The door: request ids, keys, the body within its limits, and a line in the log for each request.

Everything here happens before, around or after the routes, so that none of them can forget it.
"""

import contextlib
import json
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import metrics
from ..errors import GOING_DOWN, DemoError, TooManyRequests
from .addresses import host_of, is_loopback_name
from .auth import Client, Keys, RequestContext, set_zero_gpu_visitor
from .errors import Refusal, error_response, internal_error
from .floods import Flood, LogSampler, Pauses
from .forwarding import is_direct
from .limits import BodyBudget, ClientDisconnected, drain_body, run_until_disconnect, send_in_pieces

MAX_BODY = 64 * 2**20
"""Bytes of a request's body."""

MAX_COMMAS = 50_000
"""In a JSON body."""

_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)

log = logging.getLogger("rtdetr_demo.requests")
_failures = logging.getLogger(__name__)


class GatewayMiddleware:
    """Stands in front of an ASGI app.

    One client has at most `max_requests` requests under way at once, from the whole body to the
    last byte of the answer: more than it has places for pictures, as an answer may wait to be read.
    `inside` counts all requests; `closing` is set when the server goes down.
    """

    def __init__(self, app: ASGIApp, keys: Keys, bodies: BodyBudget, max_requests: int):
        self._app = app
        self._keys = keys
        self._max_requests = max_requests
        self._requests: Counter[str] = Counter()
        self._bodies = bodies
        self.inside = 0
        self.closing = False
        self._has_warned = False
        self._pauses = Pauses()
        self._sampler = LogSampler(_log_count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # that a server starts and ends
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        context = RequestContext(given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}")
        scope["state"] = {"context": context}
        began, status = time.perf_counter(), 499

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = context.id
                await send(message)
            else:
                await send_in_pieces(send, message, self._bodies.patience)

        try:
            if scope["path"].startswith("/v1/"):
                await self._serve(scope, receive, answer, headers, context)
            else:
                await self._app(scope, receive, answer)
        except ClientDisconnected:
            pass
        except Flood as error:
            await error_response(error, {"Connection": "close"})(scope, receive, answer)
        except DemoError as error:
            await error_response(error)(scope, receive, answer)
        except Exception:
            _failures.exception("request %s failed", context.id)
            if status == 499:
                await error_response(internal_error())(scope, receive, answer)
        finally:
            self._record(scope, context, status, time.perf_counter() - began)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, context: RequestContext
    ) -> None:
        """Raises DemoError where the request does not reach its route, and ClientDisconnected."""
        address = (scope.get("client") or ("unknown",))[0]
        context.client = Client(address, ())  # for the log, should there be no key
        try:
            self._check_open()
            context.client = self._keys.client(
                headers.get("authorization", ""),
                address,
                self._is_here(scope, headers),
                headers.get("x-api-key", ""),
            )
        except DemoError as error:
            await drain_body(receive, headers)
            if error.status == 401:
                await self._pauses.wait(address)
            raise
        self.inside += 1
        try:
            with self._bodies.body(context.client.name, MAX_BODY) as held:
                body = await held.read(receive, headers)
                _check_values(headers, body)
                self._check_open()  # it may have taken its time
                with self._counted(context.client):
                    set_zero_gpu_visitor(Request(scope))
                    await run_until_disconnect(self._app, scope, receive, send, body)
        finally:
            self.inside -= 1

    def _is_here(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request comes from a process on this machine and is addressed to it.

        The peer and Host must be loopback addresses, and no forwarding header may be present, even
        one from a trusted proxy.
        """
        if is_direct(scope):
            return is_loopback_name(host_of(headers.get("host", "")))
        if self._keys.is_open and not self._has_warned:
            self._has_warned = True
            _failures.warning(
                "Requests come through a proxy, so the API is closed to them without a key. Set "
                "RTDETR_API_KEYS, and FORWARDED_ALLOW_IPS to the proxy's address."
            )
        return False

    @contextlib.contextmanager
    def _counted(self, client: Client) -> Iterator[None]:
        """Raises TooManyRequests where a client has too many whole requests under way."""
        if any(self._requests[account] >= self._max_requests for account in client.accounts):
            raise TooManyRequests("You have too many requests under way. Wait for some of them.")
        self._requests.update(client.accounts)
        try:
            yield
        finally:
            self._requests.subtract(client.accounts)
            self._requests += Counter()  # forgets clients that have none

    def _check_open(self) -> None:
        if self.closing:
            raise Refusal(503, GOING_DOWN, "shutting_down")

    def _record(self, scope: Scope, context: RequestContext, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.REQUESTS.labels(method, route, status).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
        if route in _UNLOGGED and status < 400:
            return
        if 400 <= status < 499 and not self._sampler.admits():
            return
        entry: dict[str, Any] = {
            "time": _now(),
            "request_id": context.id,
            "client": context.client.name,
            "method": method,
            "path": scope["path"][:200],
            "status": status,
            "ms": round(1000 * seconds, 1),
            **context.facts,
        }
        log.info(json.dumps(entry))


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_UNLOGGED = ("/healthz", "/readyz", "/metrics")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _log_count(left_out: int) -> None:
    log.info(json.dumps({"time": _now(), "refused_requests_left_out": left_out}))


def _check_values(headers: Headers, body: bytes) -> None:
    """Raises Refusal (400) for JSON of too many values.

    Each value of a JSON text becomes many times its size, and pictures in it have one comma.
    """
    if "json" in headers.get("content-type", "") and body.count(b",") > MAX_COMMAS:
        raise Refusal(400, "The body has too many values. Send less at once.", "too_many_values")
