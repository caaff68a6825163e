"""The HTTP server itself: its sockets, and what a connection may cost before it has asked anything.

uvicorn answers; what it does not bound by itself is bounded here: connections in all and from one
address, the size of a request's head and the time that it takes.
"""

import asyncio
import errno
import logging
import socket
import threading
import time
from collections import defaultdict
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import DemoError

DEFAULT_PORT = 7860
MAX_CONNECTIONS = 4096
SPARE_FILES = 300
"""File descriptors that are kept for everything but connections."""

MAX_HEAD = 65_536
"""Bytes of a request's line and headers."""

MAX_MESSAGE = 4 * 2**20
"""Bytes of one message on a WebSocket."""

START_SECONDS = 30.0

log = logging.getLogger(__name__)


def listen(host: str | None, port: int | None) -> socket.socket:
    """Open the socket to serve on; `::` takes IPv4 as well. Port 0 is any that is free.

    Raises DemoError, with what to do, where that cannot be.
    """
    host = (host or "127.0.0.1").strip("[]")
    port = DEFAULT_PORT if port is None else port
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            address[:2],
            family=family,
            backlog=2048,
            dualstack_ipv6=both,
        )
    except (OSError, UnicodeError) as error:
        raise DemoError(_why_not(error, host, port)) from None


def _why_not(error: Exception, host: str, port: int) -> str:
    kind = getattr(error, "errno", None)
    if kind == errno.EADDRINUSE:
        return (
            f"Port {port} is taken, perhaps by another run of this demo. End that, or choose "
            "another port: --port (GRADIO_SERVER_PORT); 0 takes any that is free."
        )
    if kind == errno.EACCES:
        return f"This user may not open port {port}. Choose one from 1024 with --port."
    return (
        f"{host} is no address of this machine. Set --host (GRADIO_SERVER_NAME) to 127.0.0.1 for "
        "this machine alone, or to 0.0.0.0 or :: for others too."
    )


def address_of(listener: socket.socket) -> str:
    """The web address at which a browser on this machine reaches a socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """Serves an ASGI app on an open socket, in a thread of its own.

    `patience`: seconds that a connection may take to send the head of a request.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, patience: float):
        self.running_app = app  # where Gradio looks for it
        self._listener = listener
        connections = Connections(_connection_limit())
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                http=partial(BoundedProtocol, connections, patience),  # type: ignore[arg-type]
                ws_max_size=MAX_MESSAGE,
                ws_max_queue=2,
                ws_per_message_deflate=False,
                proxy_headers=False,  # see `ForwardingMiddleware`
                timeout_graceful_shutdown=3,
            )
        )

    def run_in_thread(self) -> None:
        """Start, and return once requests are answered. Raises DemoError where it cannot."""
        self._thread = threading.Thread(
            target=self.run, kwargs={"sockets": [self._listener]}, daemon=True
        )
        self._thread.start()
        end = time.monotonic() + START_SECONDS
        while not self.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise DemoError("The server did not start; the log has the details.")
            time.sleep(0.001)

    def close(self) -> None:
        """Stop answering."""
        self.should_exit = True
        self._thread.join(timeout=5)


def _connection_limit() -> int:
    """As many as the limit on open files leaves room for, which is raised as far as it may be."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - SPARE_FILES, soft // 2))


class Connections:
    """Counts the connections that are open: at most `limit`, half of them from one address."""

    def __init__(self, limit: int):
        self._limit = limit
        self._open: defaultdict[str, set[Any]] = defaultdict(set)

    def admit(self, address: str, transport: Any) -> bool:
        """Whether there is room for this one, which is then counted until it closes."""
        if self._is_full(address):
            # WebSockets end without a word to us.
            for known in list(self._open):
                self._open[known] = {one for one in self._open[known] if not one.is_closing()}
                if not self._open[known]:
                    del self._open[known]
            if self._is_full(address):
                return False
        self._open[address].add(transport)
        return True

    def leave(self, address: str, transport: Any) -> None:
        """This one has closed."""
        self._open[address].discard(transport)
        if not self._open[address]:
            del self._open[address]

    def _is_full(self, address: str) -> bool:
        mine = len(self._open.get(address, ()))
        return 2 * mine >= self._limit or sum(map(len, self._open.values())) >= self._limit


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose connections are counted, and whose requests begin within limits.

    A head over `MAX_HEAD` is refused (431), one that is not whole after `patience` seconds ends the
    connection; so does whatever is sent on after an answer.
    """

    def __init__(self, counted: Connections, patience: float, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._counted = counted
        self._patience = patience
        self._unread = 0
        """Bytes since the parser last made something of them."""
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._counted.admit(self._peer, transport):
            self._refuse(503, "Too many connections are open here. Try again in a moment.")
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._counted.leave(self._peer, self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unread += len(data)
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()
        super().data_received(data)
        if self._unread > MAX_HEAD:
            self._refuse(431, f"The headers are over {MAX_HEAD // 1024} KB. Send fewer.")

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._stop_timer()
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD:
            self._refuse(431, f"The headers are over {MAX_HEAD // 1024} KB. Send fewer.")
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        if not self._refused:
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            super().send_400_response(msg)

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""

    def _refuse(self, status: int, sentence: str) -> None:
        if self._refused:
            return
        self._refused = True
        reason = {431: "Request Header Fields Too Large", 503: "Service Unavailable"}[status]
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(sentence)}\r\nConnection: close\r\n"
                f"X-Content-Type-Options: nosniff\r\n\r\n{sentence}".encode()
            )
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._patience, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
