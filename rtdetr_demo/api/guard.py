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
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import metrics
from ..errors import DemoError, Overloaded
from .clients import Keys, Visit
from .errors import Refusal, answer_of, our_fault

MAX_BODY = 64 * 2**20
MAX_BODIES = 512 * 2**20
"""Bytes of all bodies together that are held at once."""

PATIENCE = 10.0
"""Seconds that a body may stand still."""

MAX_SECONDS = 60.0
"""Seconds that a body may take in all."""

_DRAIN_SECONDS = 5.0
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)

log = logging.getLogger("rtdetr_demo.requests")
_failures = logging.getLogger(__name__)


class Gone(Exception):
    """The client has hung up."""


class Guard:
    """Stands in front of an ASGI app; `closing` is set when the server goes down."""

    def __init__(self, app: ASGIApp, keys: Keys):
        self._app = app
        self._keys = keys
        self._bodies = 0
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        visit = Visit(given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}")
        scope["state"] = {"visit": visit}
        began, status = time.perf_counter(), 499

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = visit.id
            await send(message)

        try:
            await self._serve(scope, receive, answer, headers, visit)
        except Gone:
            pass
        except DemoError as error:
            await answer_of(error)(scope, receive, answer)
        except Exception:
            _failures.exception("request %s failed", visit.id)
            if status == 499:
                await answer_of(our_fault())(scope, receive, answer)
        finally:
            self._record(scope, visit, status, time.perf_counter() - began)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, visit: Visit
    ) -> None:
        """Raises DemoError for whatever keeps the request from its route, and Gone."""
        if scope["path"].startswith("/v1/"):
            try:
                if self.closing:
                    raise Refusal(
                        503, "This server is going down. Send this to it again in a moment.",
                        "shutting_down",
                    )  # fmt: skip
                address = (scope.get("client") or ("unknown",))[0]
                visit.client = self._keys.client(headers.get("authorization", ""), address)
            except Refusal:
                await _drain(receive, headers)
                raise
        held = 0

        def hold(size: int) -> None:
            """Account for what a body takes in memory."""
            nonlocal held
            if size > MAX_BODY:
                raise Refusal(413, f"The body is over {MAX_BODY // 2**20} MB. Send less at once.")
            if self._bodies + size - held > MAX_BODIES:
                raise Overloaded("Too much is being sent here at once. Try again soon.", 2.0)
            self._bodies += size - held
            held = size

        try:
            body = await _read(receive, headers, hold)
            await _while_there(self._app, scope, receive, send, body)
        finally:
            self._bodies -= held

    def _record(self, scope: Scope, visit: Visit, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.REQUESTS.labels(method, route, status).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
        if route in _UNLOGGED and status < 400:
            return
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": visit.id,
            "client": visit.client.name,
            "method": method,
            "path": scope["path"][:200],
            "status": status,
            "ms": round(1000 * seconds, 1),
            **visit.facts,
        }
        log.info(json.dumps(entry))


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_UNLOGGED = ("/healthz", "/readyz", "/metrics")


async def _read(receive: Receive, headers: Headers, hold: Any) -> bytes:
    """The whole body. Raises Refusal for one that is too large or too slow, and Gone."""
    body = bytearray()
    stated = headers.get("content-length", "0")
    try:
        hold(int(stated) if stated.isdecimal() else 0)
        async with asyncio.timeout(MAX_SECONDS):
            while True:
                async with asyncio.timeout(PATIENCE):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                hold(max(len(body), int(stated) if stated.isdecimal() else 0))
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(408, "The body came too slowly. Send it again.") from None
    except DemoError:
        if body or headers.get("expect", "").lower() != "100-continue":
            await _drain(receive, headers)
        raise


async def _drain(receive: Receive, headers: Headers) -> None:
    """Take in what a refused client is still sending, or it would not hear the refusal."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body"):
                pass


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

    running = asyncio.ensure_future(app(scope, replay, send))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise Gone
        await running
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
