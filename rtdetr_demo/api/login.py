"""Logging in: Gradio's login page with limits, and a login for every other address."""

import asyncio
import base64
import hmac
import math
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..errors import DemoError, Forbidden, TooManyRequests
from ..settings import Settings
from .auth import Keys, sent_key
from .errors import Refusal
from .limits import drain_body
from .login_attempts import FAILURE_SECONDS, LoginAttempts

OPEN = (
    "/",
    "/login",
    "/login/",
    "/logout",
    "/theme.css",
    "/gradio_api/theme.css",
    "/favicon.ico",
    "/robots.txt",
    "/manifest.json",
    "/pwa_icon",
    "/healthz",
    "/readyz",
    "/gradio_api/startup-events",
)
"""The paths that need no login: the login page, what it loads, health checks, and what Gradio's
launch requests of its own server."""

_OPEN_FOLDERS = ("/static/", "/assets/", "/pwa_icon/")
_LOGIN = ("/login", "/login/")
_LOGOUT = "/logout"

MAX_FORM = 2**14
"""Bytes of the form that the login page sends."""

_REFUSAL = (
    "Log in on the page first; programs send an API key (Authorization: Bearer KEY) or the name "
    "and password of a user (Basic)."
)
_FOREIGN = "Only this demo's own page may log people in and out."


class LoginMiddleware:
    """ASGI middleware inside Gradio's app that passes on requests with a login or an API key.

    Without `RTDETR_AUTH` everything passes. With it, only `OPEN` and what the login page loads
    pass without either; `/v1/` is left to the API where there are keys. Failed logins are limited
    by `LoginAttempts`. Other sites cannot log a visitor in or out.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys):
        self._app = app
        self._users = settings.users
        self._has_keys = bool(settings.api_keys)
        self._trusted = {name.lower() for name in settings.trusted_hosts}
        self._keys = keys
        self._attempts = LoginAttempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._users or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send)
        except DemoError as error:
            await _refuse(scope, receive, send, error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises DemoError for a request that is not passed on."""
        headers = Headers(scope=scope)
        path = scope["path"]
        is_http = scope["type"] == "http"
        if is_http and path in (*_LOGIN, _LOGOUT) and self._is_foreign(headers):
            await drain_body(receive, headers)
            raise Forbidden(_FOREIGN)
        if is_http and path in _LOGIN and scope["method"] == "POST":
            await self._log_in(scope, receive, send, headers)
        elif (is_http and self._is_open(path)) or await self._is_known(scope, headers):
            await self._app(scope, receive, send)
        else:
            if is_http:
                await drain_body(receive, headers)
            raise Refusal(401, _REFUSAL)

    def _is_open(self, path: str) -> bool:
        is_api = self._has_keys and path.startswith("/v1/")
        return is_api or path in OPEN or path.startswith(_OPEN_FOLDERS)

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether another site made the browser send this."""
        if site := headers.get("sec-fetch-site"):
            return site not in ("same-origin", "none")
        # Browsers send no such header to an address without TLS.
        sender = headers.get("origin") or headers.get("referer")
        if sender is None:
            return False
        name = _host(sender)
        hosts = {_host("//" + headers.get("host", "")), *self._trusted}
        return not name or name not in hosts

    async def _log_in(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Raises Refusal for what is not a login form, and TooManyRequests."""
        if int(headers.get("content-length", "0")) > MAX_FORM:
            await drain_body(receive, headers)
            raise Refusal(413, "A login has a name and a password of at most 16 KB.")
        body = await _read(receive)
        name = await _user_name(scope, body)
        address = _address(scope)
        self._attempts.begin(address, name)
        failed = False

        async def answer(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start":
                failed = message["status"] >= 400
                if failed:
                    self._attempts.log_failure(address)
                    await asyncio.sleep(FAILURE_SECONDS)
                else:
                    self._attempts.succeed(address, name)
            await send(message)

        await self._app(scope, _replay(body, receive), answer)

    async def _is_known(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request has a login or a key. Raises TooManyRequests after failed logins."""
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
        scheme, _, credentials = authorization.partition(" ")
        return scheme.lower() == "basic" and await self._is_user(
            _address(scope), credentials.strip()
        )

    async def _is_user(self, address: str, credentials: str) -> bool:
        try:
            decoded = base64.b64decode(credentials, validate=True).decode()
        except ValueError:
            return False
        name, _, password = decoded.partition(":")
        self._attempts.begin(address, name)
        expected = self._users.get(name, "")
        if expected and hmac.compare_digest(expected.encode(), password.encode()):
            self._attempts.succeed(address, name)
            return True
        self._attempts.log_failure(address)
        await asyncio.sleep(FAILURE_SECONDS)
        return False


async def _refuse(scope: Scope, receive: Receive, send: Send, error: DemoError) -> None:
    headers = {}
    if isinstance(error, TooManyRequests):
        headers["retry-after"] = str(math.ceil(error.retry_after))
    elif error.status == 401:
        headers["www-authenticate"] = 'Basic realm="RT-DETR demo"'
    if scope["type"] == "websocket":
        refusal = PlainTextResponse(str(error), error.status)
        await WebSocket(scope, receive, send).send_denial_response(refusal)
    else:
        await JSONResponse({"detail": str(error)}, error.status, headers)(scope, receive, send)


async def _user_name(scope: Scope, body: bytes) -> str:
    """The user name in a login form. Raises Refusal (400) where there is none."""
    try:
        async with Request(scope, _replay(body)).form(max_files=0, max_fields=16) as form:
            name = form.get("username")
    except (HTTPException, ValueError):
        name = None
    if not isinstance(name, str):
        raise Refusal(400, "Send a name and a password, as a form.")
    return name.strip()


async def _read(receive: Receive) -> bytes:
    """A login's whole body. Raises Refusal for one that is too large or too slow."""
    body = b""
    try:
        async with asyncio.timeout(10):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > MAX_FORM:
                    raise Refusal(413, "A login has a name and a password of at most 16 KB.")
                if not message.get("more_body"):
                    return body
    except TimeoutError:
        raise Refusal(408, "The body came too slowly. Send it again.") from None


def _replay(body: bytes, receive: Receive | None = None) -> Receive:
    """A `receive` that gives this body first, and then what `receive` does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if messages:
            return messages.pop()
        return await receive() if receive else {"type": "http.disconnect"}

    return replay


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("unknown",))[0]


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""
