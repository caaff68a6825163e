"""Which proxies may say whose request they pass on, and what is left of their headers."""

import os

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ..settings import Settings
from .addresses import is_loopback

_SPACE_NETWORKS = "10.0.0.0/8,172.16.0.0/12"

_DIRECT = "rtdetr_demo.direct"

_NAMES = frozenset(
    {
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-gradio-server",
        b"x-original-host",
        b"x-real-ip",
    }
)
"""Forwarding headers besides X-Forwarded-*."""


def trusted_proxies() -> str:
    """The addresses whose forwarding headers are trusted (FORWARDED_ALLOW_IPS); "" for none.

    On a Space, where the variable is not set, these are the private addresses of the Hub's proxies.
    """
    if addresses := os.environ.get("FORWARDED_ALLOW_IPS", "").strip():
        return addresses
    return _SPACE_NETWORKS if os.environ.get("SPACE_ID") else ""


def is_direct(scope: Scope) -> bool:
    """Whether a request comes from a process on this machine and through no proxy.

    The peer is a loopback address, and no forwarding header was present, whatever its value.
    """
    if _DIRECT in scope:
        return bool(scope[_DIRECT])
    client = scope.get("client") or ("", 0)
    return is_loopback(client[0]) and not any(_is_forwarding(name) for name, _ in scope["headers"])


class ForwardingMiddleware:
    """ASGI middleware that accepts forwarding headers from trusted proxies alone.

    For these, `client` and `scheme` of the scope are set from X-Forwarded-For and -Proto. For all
    other peers, every forwarding header is removed from the scope. X-Gradio-Server is always
    removed. Keeps the result of `is_direct` for the app.

    With GRADIO_SHARE, the tunnel's process on this machine may set X-Forwarded-Host and -Proto.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._proxied = ProxyHeadersMiddleware(app, trusted_proxies())  # type: ignore[arg-type]
        self._is_shared = settings.share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        peer = (scope.get("client") or ("", 0))[0]
        direct = is_direct(scope)
        scope = {**scope, _DIRECT: direct}
        if direct:
            await self._app(scope, receive, send)
            return
        kept: tuple[bytes, ...] = ()
        is_trusted = bool(trusted_proxies()) and peer in self._proxied.trusted_hosts
        if not is_trusted and self._is_shared and is_loopback(peer):
            kept = (b"x-forwarded-host", b"x-forwarded-proto")
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if (is_trusted and name != b"x-gradio-server")
            or name in kept
            or not _is_forwarding(name)
        ]
        app = self._proxied if is_trusted else self._app
        await app(scope, receive, send)  # type: ignore[arg-type]


def _is_forwarding(name: bytes) -> bool:
    name = name.replace(b"_", b"-")
    return name in _NAMES or name.startswith(b"x-forwarded-")
