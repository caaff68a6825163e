"""Logging in, for what Gradio's own login leaves open: uploads by our route, tools, WebSockets."""

import base64
import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..settings import Settings
from .auth import Keys, sent_key

GUARDED = ("/gradio_api/mcp", "/gradio_api/upload")

_REFUSAL = (
    "Log in on the page first; programs send an API key (Authorization: Bearer KEY) or the name "
    "and password of a user (Basic)."
)


class LoginMiddleware:
    """ASGI middleware inside Gradio's app that lets in who has logged in, or has a key.

    Without `RTDETR_AUTH` there is nothing to log in to, and everyone passes.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys):
        self._app = app
        self._users = settings.users
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_socket = scope["type"] == "websocket"
        is_guarded = is_socket or (scope["type"] == "http" and scope["path"].startswith(GUARDED))
        if not self._users or not is_guarded or self._knows(scope):
            await self._app(scope, receive, send)
        elif is_socket:
            refusal = PlainTextResponse(_REFUSAL, 401)
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            headers = {"www-authenticate": 'Basic realm="RT-DETR demo"'}
            await JSONResponse({"detail": _REFUSAL}, 401, headers)(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        gradio: Any = scope["app"]
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        for kind in ("access-token", "access-token-unsecure"):
            cookie = cookies.get(f"{kind}-{gradio.cookie_id}")
            if cookie and cookie.value in gradio.tokens:
                return True
        authorization = headers.get("authorization", "")
        if key := sent_key(authorization, headers.get("x-api-key", "")):
            return self._keys.has(key)
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "basic" and self._is_user(given.strip())

    def _is_user(self, given: str) -> bool:
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return False
        known = self._users.get(name, "")
        return bool(known) and hmac.compare_digest(known.encode(), password.encode())
