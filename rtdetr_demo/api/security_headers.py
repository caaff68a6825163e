"""Response headers that limit what a browser does with a response."""

import os

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HUB = "https://huggingface.co https://*.hf.space"
"""The sites that show a Space in a frame."""


class SecurityHeadersMiddleware:
    """ASGI middleware that adds security headers to every response.

    These are X-Content-Type-Options, Referrer-Policy and Content-Security-Policy. Directives are
    added to the policy of a response that has one, unless it has them itself.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        ancestors = f"'self' {HUB}" if os.environ.get("SPACE_ID") else "'self'"
        self._policy = {
            "frame-ancestors": f"frame-ancestors {ancestors}",
            "object-src": "object-src 'none'",
            "base-uri": "base-uri 'self'",
        }
        self._whole = "; ".join(self._policy.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers.setdefault("referrer-policy", "same-origin")
                policy = headers.get("content-security-policy")
                headers["content-security-policy"] = self._merge(policy) if policy else self._whole
            await send(message)

        await self._app(scope, receive, sending)

    def _merge(self, policy: str) -> str:
        directives = [part.strip() for part in policy.split(";") if part.strip()]
        names = {part.split()[0].lower() for part in directives}
        added = [text for name, text in self._policy.items() if name not in names]
        return "; ".join([*directives, *added])
