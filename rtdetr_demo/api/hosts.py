"""Whom a request was meant for and which page sent it: the outermost gate of the server."""

import logging
import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..settings import Settings
from .server import is_loopback

FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers by which a proxy says whose request it passes on."""

_SAFE = ("GET", "HEAD", "OPTIONS")

_PROBES = ("/healthz", "/readyz")
"""What an orchestrator asks by whatever name or address it knows; it gives nothing away."""

log = logging.getLogger(__name__)


def root_path() -> str:
    """The path under which a proxy shows the demo (GRADIO_ROOT_PATH): "/demo", or "" for none."""
    path = urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).path.strip("/")
    return f"/{path}" if path else ""


class HostMiddleware:
    """ASGI middleware that refuses what other sites make a visitor's browser send here.

    A demo for this machine alone answers to names of this machine only, so that no site can give
    itself our address (DNS rebinding); `RTDETR_TRUSTED_HOSTS` names further ones. What changes
    anything is not taken from another site's page, there or where people log in. Takes the path
    prefix of `root_path` off, for proxies that leave it on.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._is_local = settings.is_local
        self._checks_origin = settings.is_local or bool(settings.auth or settings.trusted_hosts)
        self._trusted = {name.lower() for name in settings.trusted_hosts}
        if shown_at := urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).hostname:
            self._trusted.add(shown_at)
        self._prefix = root_path()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._prefix and (scope["path"] + "/").startswith(self._prefix + "/"):
            path = scope["path"].removeprefix(self._prefix) or "/"
            raw = scope.get("raw_path") or b""
            raw = raw.removeprefix(self._prefix.encode()) or b"/"
            scope = {**scope, "path": path, "raw_path": raw}
        if sentence := self._refusal(scope):
            if scope["type"] == "websocket":
                refusal = PlainTextResponse(sentence, 403)
                await WebSocket(scope, receive, send).send_denial_response(refusal)
            else:
                await JSONResponse({"detail": sentence}, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        if scope["type"] == "http" and scope["path"] in _PROBES and scope["method"] in _SAFE:
            return None
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if (self._is_local or self._trusted) and not self._is_ours(host):
            log.warning("refused a request for %r: see RTDETR_TRUSTED_HOSTS", host[:100])
            return (
                f"This demo does not answer to the name “{host[:100]}”. Open it as "
                "http://127.0.0.1 with its port, or set RTDETR_TRUSTED_HOSTS to that name."
            )
        is_safe = scope["type"] == "http" and scope["method"] in _SAFE
        origin = headers.get("origin")
        if is_safe or origin is None or not self._checks_origin:
            return None
        sender = _host(urlsplit(origin).netloc if "://" in origin else origin)
        behind = {host, _host(headers.get("x-forwarded-host", ""))}
        both_here = is_loopback(sender) and is_loopback(host)
        if sender and (sender in behind or sender in self._trusted or both_here):
            return None
        log.warning("refused what a page of %r sent: see RTDETR_TRUSTED_HOSTS", sender[:100])
        return (
            "Only this demo's own page may send this. If a proxy shows the demo under the name "
            f"“{sender[:100]}”, set RTDETR_TRUSTED_HOSTS to it."
        )

    def _is_ours(self, host: str) -> bool:
        if host in self._trusted or is_loopback(host):
            return True
        # Without a limit to this machine, its own numbers are known to whoever asks by them.
        return not self._is_local and not self._trusted


def _host(netloc: str) -> str:
    """The name in `name`, `name:port`, `[address]` or `[address]:port`."""
    try:
        return (urlsplit("//" + netloc.strip()).hostname or "").rstrip(".")
    except ValueError:
        return ""
