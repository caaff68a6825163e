"""Checks of the Host header and of the page that sends a request."""

import logging
import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..settings import Settings
from .addresses import host_of, is_loopback_name
from .floods import LogSampler

_SAFE = ("GET", "HEAD", "OPTIONS")

_PROBES = ("/healthz", "/readyz")
"""Paths that orchestrators request under any host name or address."""

log = logging.getLogger(__name__)


def root_path() -> str:
    """The path under which a proxy shows the demo (GRADIO_ROOT_PATH): "/demo", or "" for none."""
    path = urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).path.strip("/")
    return f"/{path}" if path else ""


class HostMiddleware:
    """ASGI middleware that refuses (403) requests for other hosts and from pages of other sites.

    Where only this machine can reach the demo, Host must be `localhost`, an address in 127.0.0.0/8,
    `[::1]` or a name in `RTDETR_TRUSTED_HOSTS`, which prevents DNS rebinding. With trusted hosts,
    these names and the loopback ones are accepted on any other demo too. X-Forwarded-Host, which
    only a trusted proxy can set, is subject to the same check.

    Requests from pages of other origins are refused on a demo for this machine alone, with a login
    and with trusted hosts: by their Origin, or as `Sec-Fetch-Site: cross-site` where they are not
    top-level navigations. This includes preflights. No Access-Control-Allow-* header is sent to
    such an origin.

    Removes the path prefix of `root_path`, for proxies that leave it on.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._is_local = settings.is_local
        self._checks_origin = settings.is_local or bool(settings.auth or settings.trusted_hosts)
        self._trusted = {name.lower() for name in settings.trusted_hosts}
        if shown_at := urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).hostname:
            self._trusted.add(shown_at)
        self._prefix = root_path()
        self._sampler = LogSampler(lambda count: log.warning("refused %d more requests", count))
        # The Hub shows a Space in a frame on its own page.
        self._frames = ("document", "iframe") if os.environ.get("SPACE_ID") else ("document",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._prefix and (scope["path"] + "/").startswith(self._prefix + "/"):
            path = scope["path"].removeprefix(self._prefix) or "/"
            raw = scope.get("raw_path") or b""
            raw = raw.removeprefix(self._prefix.encode()) or b"/"
            scope = {**scope, "path": path, "raw_path": raw}
        headers = Headers(scope=scope)
        is_foreign = self._is_foreign(scope, headers)
        if sentence := self._refusal(scope, headers, is_foreign):
            if scope["type"] == "websocket":
                refusal = PlainTextResponse(sentence, 403)
                await WebSocket(scope, receive, send).send_denial_response(refusal)
            else:
                await JSONResponse({"detail": sentence}, 403)(scope, receive, send)
            return
        await self._app(scope, receive, _without_cors(send) if is_foreign else send)

    def _refusal(self, scope: Scope, headers: Headers, is_foreign: bool) -> str | None:
        """Why a request is refused, in a sentence; None for one that is not."""
        is_preflight = "origin" in headers and "access-control-request-method" in headers
        is_probe = scope["type"] == "http" and scope["path"] in _PROBES and not is_preflight
        if is_probe and scope["method"] in _SAFE:
            return None
        forwarded = _first(headers.get("x-forwarded-host", ""))
        for stated in (headers.get("host", ""), *([forwarded] if forwarded else [])):
            if not self._accepts(stated):
                shown = stated[:100]
                self._warn("refused a request for %r: see RTDETR_TRUSTED_HOSTS", shown)
                return (
                    f"This demo does not answer to the name “{shown}”. Open it as "
                    "http://127.0.0.1 with its port, or set RTDETR_TRUSTED_HOSTS to that name."
                )
        if not is_foreign:
            return None
        sender = headers.get("origin", "another site")[:100]
        self._warn("refused what a page of %r sent: see RTDETR_TRUSTED_HOSTS", sender)
        return (
            "Only this demo's own page may send this. If a proxy shows the demo under the name "
            f"“{sender}”, set RTDETR_TRUSTED_HOSTS to it."
        )

    def _warn(self, message: str, name: str) -> None:
        if self._sampler.admits():
            log.warning(message, name)

    def _accepts(self, stated: str) -> bool:
        host = host_of(stated)
        if host.rstrip(".") in self._trusted or is_loopback_name(host):
            return True
        # Where there is no list of names, any well-formed one is accepted.
        return not self._is_local and not self._trusted and bool(host or not stated)

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        """Whether another site's page sends a request, where that is checked."""
        if not self._checks_origin:
            return False
        origin = headers.get("origin")
        if origin is None:
            is_navigation = (
                scope["type"] == "http"
                and scope["method"] in _SAFE
                and headers.get("sec-fetch-mode") == "navigate"
                and headers.get("sec-fetch-dest") in self._frames
            )
            return headers.get("sec-fetch-site") == "cross-site" and not is_navigation
        scheme, _, netloc = origin.partition("://")
        sender = host_of(netloc) if scheme in ("http", "https") else ""
        hosts = {host_of(headers.get("host", ""))}
        hosts.add(host_of(_first(headers.get("x-forwarded-host", ""))))
        both_loopback = is_loopback_name(sender) and any(map(is_loopback_name, hosts))
        return not (
            sender and (sender in hosts or sender.rstrip(".") in self._trusted or both_loopback)
        )


def _first(value: str) -> str:
    """The first element of a comma-separated header, which is the one that Gradio uses."""
    return value.partition(",")[0].strip()


def _without_cors(send: Send) -> Send:
    """Remove the headers that let a page of another origin read a response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, value)
                for name, value in message.get("headers", ())
                if not name.lower().startswith(b"access-control-allow-")
            ]
        await send(message)

    return sending
