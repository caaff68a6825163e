"""Which of Gradio's routes are open here, and what a request to them may weigh.

Gradio comes with routes for what this demo does not do: recording, monitoring, editing its own
code, proxies, fetching any address. An allow-list keeps them shut, those of its next version too.
"""

from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import DemoError, TooManyRequests
from ..serving.owners import is_owner
from .errors import Refusal
from .limits import BodyBudget, ClientDisconnected, drain_body, run_until_disconnect, send_in_pieces
from .sessions import Sessions, check_function, session_of
from .uploads import Uploads
from .visitors import visitor_of

MAX_JSON = 4 * 2**20
"""Bytes of a body that the page sends."""

MAX_TOOL_CALL = 64 * 2**20
"""Bytes of an assistant's call: it may hold a picture."""

TOOL = "detect_objects"
"""The endpoint that assistants call. Gradio's client for JavaScript calls it by `_RUN`, as it has
no place in Gradio's queue."""

_API = "/gradio_api"
_MCP = f"{_API}/mcp"
_FILE = f"{_API}/file="
_UPLOAD = f"{_API}/upload"
_RUN = f"{_API}/run/{TOOL}"
_FUNCTION = f"{_API}/component_server"

OPEN = (
    "/",
    "/config",
    "/config/",
    "/login",
    "/login/",
    "/logout",
    "/theme.css",
    "/favicon.ico",
    "/robots.txt",
    "/manifest.json",
    "/pwa_icon",
    "/pwa_icon/{size}",
    "/static/{path:path}",
    "/assets/{path:path}",
    f"{_API}/app_id",
    f"{_API}/app_id/",
    f"{_API}/theme.css",
    f"{_API}/user",
    f"{_API}/user/",
    f"{_API}/login_check",
    f"{_API}/login_check/",
    f"{_API}/info",
    f"{_API}/info/",
    f"{_API}/openapi.json",
    f"{_API}/startup-events",
    f"{_API}/heartbeat/{{session_hash}}",
    f"{_API}/component_server",
    f"{_API}/component_server/",
    f"{_API}/queue/join",
    f"{_API}/queue/data",
    f"{_API}/queue/status",
    f"{_API}/cancel",
    f"{_API}/reset",
    f"{_API}/reset/",
    f"{_API}/call/{{api_name}}",
    f"{_API}/call/{{api_name}}/",
    f"{_API}/call/{{api_name}}/{{event_id}}",
    f"{_API}/call/v2/{{api_name}}",
    f"{_API}/call/v2/{{api_name}}/",
    f"{_API}/call/v2/{{api_name}}/{{event_id}}",
    _RUN,
    f"{_RUN}/",
    f"{_API}/file={{path_or_url:path}}",
    _UPLOAD,
    _MCP,
    f"{_MCP}/",
    f"{_MCP}/schema",
    f"{_MCP}/messages/{{path:path}}",
    f"{_MCP}/sse",
)
"""The paths that are open, as Gradio writes them."""

SERVED = ("uploads", "results", "videos")
"""The folders of the scratch folder whose files visitors may open."""

OWNED = ("results", "videos")
"""Those of them in which each folder belongs to one visitor."""

_CLOSED = "There is nothing at this address. The page is at /, and the API is described at /docs."

_patterns = [compile_path(path)[0] for path in OPEN]


def is_open(path: str) -> bool:
    """Whether a request for this path reaches Gradio."""
    return any(pattern.fullmatch(path) for pattern in _patterns)


class GradioMiddleware:
    """ASGI middleware directly before Gradio: its routes on the list, and bodies within limits."""

    def __init__(self, app: ASGIApp, bodies: BodyBudget, uploads: Uploads):
        self._app = app
        self._bodies = bodies
        self._uploads = uploads
        self._sessions = Sessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                await send(message)
            else:
                await send_in_pieces(send, message, self._bodies.patience)

        try:
            await self._serve(scope, receive, answer, headers)
        except ClientDisconnected:
            pass
        except DemoError as error:
            if begun:
                raise
            refusal = JSONResponse({"detail": str(error)}, error.status)
            if isinstance(error, TooManyRequests):
                refusal.headers["retry-after"] = str(round(error.retry_after))
            await refusal(scope, receive, answer)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Raises DemoError for whatever keeps the request from Gradio, and ClientDisconnected."""
        path, method = scope["path"], scope["method"]
        address = (scope.get("client") or ("unknown",))[0]
        if not is_open(path):
            await drain_body(receive, headers)
            raise Refusal(404, _CLOSED)
        if path == _MCP:  # a redirect loses what does not follow it
            path = f"{_MCP}/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        if path.startswith(_FILE):
            self._check_file(path.removeprefix(_FILE), visitor_of(scope))
            send = _with_sandbox_headers(send)
        if method != "POST":
            self._check_session(scope, address, b"")
            await self._app(scope, receive, send)
        elif path == _UPLOAD:
            await self._uploads(scope, receive, send, address)
        else:
            limit = MAX_TOOL_CALL if path.startswith((_MCP, _RUN)) else MAX_JSON
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if not path.startswith("/login") and kind not in ("application/json", ""):
                await drain_body(receive, headers)
                raise Refusal(415, "Send JSON here, as application/json.")
            with self._bodies.body(address, limit) as held:
                body = await held.read(receive, headers)
                if body and not kind:
                    raise Refusal(415, "Send JSON here, as application/json.")
                if not path.startswith(("/login", _MCP)):
                    self._check_session(scope, address, body)
                if path.startswith(_FUNCTION):
                    check_function(scope["app"], body)
                await run_until_disconnect(self._app, scope, receive, send, body)

    def _check_session(self, scope: Scope, address: str, body: bytes) -> None:
        """Raises Refusal (400) for a name that is too long, and TooManyRequests."""
        session = session_of(scope["path"], scope["query_string"], body)
        if session is not None:
            self._sessions.use(address, session)

    def _check_file(self, name: str, visitor: str) -> None:
        """Raises Refusal (404) for what is no file that this visitor may open."""
        root = self._uploads.scratch.path
        try:
            place = Path(name).resolve().relative_to(root.resolve())
        except (OSError, ValueError, RuntimeError):
            raise Refusal(404, "There is no such file here (any more).") from None
        kind, folder, *_ = (*place.parts, "", "")
        is_foreign = kind in OWNED and not is_owner(visitor, folder)
        if kind not in SERVED or is_foreign:
            raise Refusal(404, "There is no such file here (any more).")


def _with_sandbox_headers(send: Send) -> Send:
    """Have a browser run nothing of a visitor's file, whatever it takes it for."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            headers["content-security-policy"] = "sandbox"
        await send(message)

    return sending
