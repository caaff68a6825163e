"""The door: request ids, keys, the body within its limits, and a line in the log for each request.

Everything here happens before, around or after the routes, so that none of them can forget it.
"""

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import metrics
from ..errors import DemoError, Overloaded
from ..serving.scheduler import GOING_DOWN
from .auth import Client, Keys, RequestContext
from .errors import Refusal, answer_of, our_fault

MAX_BODY = 64 * 2**20
MAX_BODIES = 512 * 2**20
MAX_OWN = 256 * 2**20
"""Bytes of bodies that are held at once: of all together, and of one client."""

MAX_COMMAS = 50_000
"""In a JSON body."""

PATIENCE = 10.0
"""Seconds that a body, or an answer, may stand still."""

MAX_SECONDS = 60.0
"""Seconds that a body may take in all."""

_DRAIN_SECONDS = 5.0
_PIECE = 65_536
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)

log = logging.getLogger("rtdetr_demo.requests")
_failures = logging.getLogger(__name__)


class Gone(Exception):
    """The client has hung up."""


class GatewayMiddleware:
    """Stands in front of an ASGI app.

    One client has at most `most` requests under way at once, from the whole body to the last byte
    of the answer: more than it has places for pictures, as an answer may wait to be read.
    `inside` counts all requests; `closing` is set when the server goes down.
    """

    def __init__(self, app: ASGIApp, keys: Keys, most: int):
        self._app = app
        self._keys = keys
        self._most = most
        self._requests: Counter[str] = Counter()
        self._bodies: Counter[str] = Counter()
        self.inside = 0
        self.closing = False

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
                await _send_in_pieces(send, message)

        try:
            if scope["path"].startswith("/v1/"):
                await self._serve(scope, receive, answer, headers, context)
            else:
                await self._app(scope, receive, answer)
        except Gone:
            pass
        except DemoError as error:
            await answer_of(error)(scope, receive, answer)
        except Exception:
            _failures.exception("request %s failed", context.id)
            if status == 499:
                await answer_of(our_fault())(scope, receive, answer)
        finally:
            self._record(scope, context, status, time.perf_counter() - began)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, context: RequestContext
    ) -> None:
        """Raises DemoError for whatever keeps the request from its route, and Gone."""
        address = (scope.get("client") or ("unknown",))[0]
        context.client = Client(address, ())  # for the log, should there be no key
        try:
            self._check_open()
            context.client = self._keys.client(headers.get("authorization", ""), address)
        except DemoError:
            await _take_in(receive, headers)
            raise
        self.inside += 1
        held = 0

        def hold(size: int) -> None:
            """Account for what a body takes in memory."""
            nonlocal held
            if size > MAX_BODY:
                raise Refusal(413, f"The body is over {MAX_BODY // 2**20} MB. Send less at once.")
            name, more = context.client.name, size - held
            if self._bodies[name] + more > MAX_OWN or self._bodies.total() + more > MAX_BODIES:
                raise Overloaded("Too much is being sent here at once. Try again soon.", 2.0)
            self._bodies[name] += more
            held = size

        try:
            body = await _read(receive, headers, hold)
            self._check_open()  # it may have taken its time
            with self._counted(context.client):
                await _while_there(self._app, scope, receive, send, body)
        finally:
            self.inside -= 1
            self._bodies[context.client.name] -= held
            if not self._bodies[context.client.name]:
                del self._bodies[context.client.name]

    @contextlib.contextmanager
    def _counted(self, client: Client) -> Iterator[None]:
        """Raises Overloaded where a client has too many whole requests under way."""
        if any(self._requests[account] >= self._most for account in client.accounts):
            raise Overloaded("You have too many requests under way. Wait for some of them.")
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
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
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


async def _read(receive: Receive, headers: Headers, hold: Callable[[int], None]) -> bytes:
    """The whole body. Raises Refusal for one that is too large or too slow, and Gone."""
    body = bytearray()
    stated = headers.get("content-length", "0")
    try:
        if stated.isdecimal() and int(stated) > MAX_BODY:
            hold(int(stated))
        async with asyncio.timeout(MAX_SECONDS):
            while True:
                async with asyncio.timeout(PATIENCE):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                hold(len(body))
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise Refusal(408, "The body came too slowly. Send it again.") from None
    except DemoError:
        await _take_in(receive, headers, begun=bool(body))
        raise
    # Each value of a JSON text becomes many times its size, and pictures in it have one comma.
    if "json" in headers.get("content-type", "") and body.count(b",") > MAX_COMMAS:
        raise Refusal(400, "The body has too many values. Send less at once.", "too_many_values")
    return bytes(body)


async def _take_in(receive: Receive, headers: Headers, begun: bool = False) -> None:
    """Take in what a refused client is still sending, or it would not hear the refusal."""
    waits = headers.get("expect", "").lower() == "100-continue" and not begun
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if waits or not has_body:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body"):
                pass


async def _send_in_pieces(send: Send, message: Message) -> None:
    """Send a part of an answer no faster than it is read. Raises Gone where it is not."""
    body, more = message.get("body", b""), message.get("more_body", False)
    try:
        for start in range(0, max(len(body), 1), _PIECE):
            end = start + _PIECE
            piece = {"body": body[start:end], "more_body": more or end < len(body)}
            async with asyncio.timeout(PATIENCE):
                await send({**message, **piece})
    except TimeoutError:
        raise Gone from None


async def _while_there(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, body: bytes
) -> None:
    """Run the app on a body that is here, and stop it when the client hangs up. Raises Gone."""
    gone = asyncio.ensure_future(_hang_up(receive))
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if messages:
            return messages.pop()
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    is_stuck = False

    async def sending(message: Message) -> None:
        nonlocal is_stuck
        try:
            await send(message)
        except Gone:
            is_stuck = True
            raise

    running = asyncio.ensure_future(app(scope, replay, sending))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise Gone
        await running
    except Exception:
        if is_stuck:  # whatever the layers between have made of it
            raise Gone from None
        raise
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
