"""Which visitor sends a request: a signed cookie that is set with the page."""

import hashlib
import hmac
import os
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .hosts import root_path

MAX_AGE = 86_400
"""Seconds that a browser keeps the cookie; each visit of the page renews it."""

_STATE = "visitor"


class VisitorMiddleware:
    """ASGI middleware that sets the visitor's cookie with the page, for `visitor_of`.

    The cookie is signed with a key of this process, so it ends with the process, as results do.
    Its name differs between processes, because browsers share cookies between ports.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._key = secrets.token_bytes(32)
        self._cookie = f"rtdetr-visitor-{secrets.token_hex(4)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = self._visitor(Headers(scope=scope).get("cookie", ""))
        if name is not None:
            state = {**scope.get("state", {}), _STATE: f"cookie {name}"}
            scope = {**scope, "state": state}

        async def send_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", self._set_cookie(name or secrets.token_hex(16), scope))
            await send(message)

        await self._app(scope, receive, send_cookie if scope["path"] == "/" else send)

    def _visitor(self, header: str) -> str | None:
        """The visitor that a Cookie header names with a valid signature."""
        try:
            cookie = SimpleCookie(header).get(self._cookie)
        except CookieError:
            return None
        name, _, signature = cookie.value.partition(".") if cookie else ("", "", "")
        is_valid = hmac.compare_digest(signature.encode(), self._sign(name).encode())
        return name if is_valid else None

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    def _set_cookie(self, name: str, scope: Scope) -> str:
        parts = [
            f"{self._cookie}={name}.{self._sign(name)}",
            f"Path={root_path() or '/'}",
            f"Max-Age={MAX_AGE}",
            "HttpOnly",
        ]
        if os.environ.get("SPACE_ID"):  # the Hub shows the page in a frame
            parts += ["SameSite=None", "Secure", "Partitioned"]
        else:
            parts += ["SameSite=Lax", *(["Secure"] if scope["scheme"] == "https" else [])]
        return "; ".join(parts)


def visitor_of(scope: Scope) -> str:
    """The visitor whose results and jobs a request may use.

    By the cookie of `VisitorMiddleware`; without a valid one, by the client's address.
    """
    address = (scope.get("client") or ("unknown",))[0]
    return scope.get("state", {}).get(_STATE) or f"address {address}"
