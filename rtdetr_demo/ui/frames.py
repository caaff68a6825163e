"""The camera's way to the server: frames in, boxes out, over one WebSocket.

A message to the server is binary: two bytes with the length of a header (big-endian), the header
(JSON, a `Header`), and a JPEG. An answer is JSON: candidates of the decoder layer asked for
(`Predictions.for_browser`) or `{"error"}`, a sentence, with the `frame` number of the header. Names
and colours of the classes come with the first answer of a checkpoint only. The first message of all
is the server's: `{"viewer", "max_bytes"}`.
"""

import asyncio
import json
import logging
import secrets
import time
from collections import Counter, deque
from typing import Annotated
from urllib.parse import urlsplit

import anyio
from pydantic import Field, StrictInt, ValidationError
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..errors import INTERNAL_ERROR, BadInput, DemoError, TooLarge
from ..serving.service import Service
from ..serving.viewers import ViewerLimiter
from .pictures import colors
from .rpc import ShapedRequest

PATH = "/frames"
LOWEST_SCORE = 0.05
"""Candidates below this are not sent: the page's threshold starts there."""

MAX_BYTES = 2 * 2**20
"""The largest frame, header and all."""

IDLE_SECONDS = 60.0
"""A socket without frames is closed after this; the page opens another when it needs one."""

SOCKETS_PER_PLACE = 4
"""Open sockets for each viewer who may watch at once: most may be idle. One address has a quarter
of them all."""

log = logging.getLogger(__name__)


class Header(ShapedRequest):
    """`frame`: a number of the page's own, given back with the answer."""

    frame: Annotated[StrictInt, Field(ge=0, lt=2**53)]
    checkpoint: Annotated[str, Field(max_length=500)] = ""
    decoder_layers: StrictInt


class FramesMiddleware:
    """ASGI middleware that answers the page's WebSocket, and leaves all else to the app."""

    def __init__(self, app: ASGIApp, service: Service):
        self._app = app
        self._service = service
        self._limit = service.settings.live_viewers
        self._viewers = ViewerLimiter(self._limit)
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        socket = WebSocket(scope, receive, send)
        if not _same_origin(socket.headers):
            refusal = "Open this demo's own page: other sites may not send frames here."
            await socket.send_denial_response(PlainTextResponse(refusal, 403))
            return
        await socket.accept()
        address = socket.client.host if socket.client else "unknown"
        self._open[address] += 1
        try:
            if sentence := self._refusal(address):
                await socket.send_json({"error": sentence})
                await socket.close(1013)
                return
            await _Connection(socket, self._service, self._viewers).serve()
        except (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            self._open -= Counter([address])
            if WebSocketState.DISCONNECTED not in (
                socket.client_state,
                socket.application_state,
            ):
                await socket.close()

    def _refusal(self, address: str) -> str | None:
        """Why a socket of this address, counted already, is not served; None if it is."""
        most = SOCKETS_PER_PLACE * self._limit
        if self._open[address] > max(most // 4, 2):
            return "Too many pages are open here from your address. Close some, then try again."
        if self._open.total() > most:
            return "Too many pages are open here. Try again later."
        return None


class _Connection:
    """One viewer: one frame under way, and of those that came meanwhile the newest."""

    def __init__(self, socket: WebSocket, service: Service, viewers: ViewerLimiter):
        self._socket = socket
        self._service = service
        self._viewers = viewers
        self._viewer = secrets.token_urlsafe(8)
        self._address = socket.client.host if socket.client else "unknown"
        self._newest: deque[bytes] = deque(maxlen=1)
        self._arrived = anyio.Event()
        self._announced = ""

    async def serve(self) -> None:
        """Until the viewer leaves or falls silent."""
        await self._socket.send_json({"viewer": self._viewer, "max_bytes": MAX_BYTES})
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read)
                while True:
                    with anyio.fail_after(IDLE_SECONDS):
                        await self._arrived.wait()
                    self._arrived = anyio.Event()
                    message = self._newest.pop()
                    answer = await self._answer(message)
                    with anyio.fail_after(self._service.settings.patience):
                        await self._socket.send_text(answer)
        except* (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            self._viewers.remove_viewer(self._viewer)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            self._newest.append(message.get("bytes") or b"")
            self._arrived.set()

    async def _answer(self, message: bytes) -> str:
        """JSON for one message, whatever it holds."""
        number = None
        try:
            header, picture = _parse(message)
            number = header.frame
            answer = await self._detect(header, picture)
        except DemoError as error:
            answer = {"error": str(error)}
        except Exception:
            log.exception("a frame failed")
            answer = {"error": INTERNAL_ERROR}
        return json.dumps({"frame": number, **answer})

    async def _detect(self, header: Header, picture: bytes) -> dict:
        began = time.perf_counter()
        engine, checkpoints = self._service.engine, self._service.checkpoints
        self._viewers.begin_frame(self._viewer, self._address)
        try:
            opening = engine.open_frame(self._viewer, picture)
            detector = await asyncio.wrap_future(checkpoints.request(header.checkpoint))
            image = await asyncio.wrap_future(opening)
            depth = min(header.decoder_layers, detector.depth)
            params = header.params(detector.checkpoint, depth, every_layer=False)
            submitted = time.perf_counter()
            pending = engine.submit(self._viewer, image, params, detector=detector)
            predictions = await asyncio.wrap_future(pending)
            waited = time.perf_counter() - submitted - predictions.timing.total / 1000
            answer = predictions.for_browser([predictions.layers], LOWEST_SCORE)
        finally:
            self._viewers.end_frame(self._viewer)
        if predictions.checkpoint == self._announced:
            del answer["classes"]
        else:
            self._announced = predictions.checkpoint
            answer["colors"] = colors(predictions.class_names)
        answer["decoder_layers"] = depth
        answer["depth"] = detector.depth
        answer["runtime"] = detector.runtime(**header.shape).name
        answer["timing_ms"] |= {
            "wait": round(max(waited, 0) * 1000, 2),
            "server": round((time.perf_counter() - began) * 1000, 2),
        }
        return answer


def _parse(message: bytes) -> tuple[Header, bytes]:
    """Raises BadInput for what is not a frame."""
    if len(message) > MAX_BYTES:
        raise TooLarge(f"A frame has at most {MAX_BYTES // 2**20} MB. Send smaller ones.")
    end = 2 + int.from_bytes(message[:2], "big")
    try:
        return Header.model_validate_json(message[2:end]), message[end:]
    except ValidationError:
        raise BadInput("The page sent something unexpected. Reload it and try again.") from None


def _same_origin(headers: Headers) -> bool:
    """Whether the page that asks is this demo's; what is no browser names no origin."""
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(host) and host in (headers.get("host"), headers.get("x-forwarded-host"))
