"""Gradio's launch of a page, on our own server."""

import socket
from typing import Any
from unittest.mock import patch

import gradio as gr
from starlette.types import ASGIApp

from ..api.outermost import outermost
from ..api.server import Server, address_of
from ..settings import Settings


def launch(page: gr.Blocks, settings: Settings, listener: socket.socket, **options: Any) -> str:
    """Serve the page on an open socket, and give the address that a browser opens.

    Gradio's launch does more than serve (tunnels, the hooks of a Space), but has no say over its
    server's limits, its sockets or IPv6: only the server is replaced.
    """

    def start_server(app: ASGIApp, **_: Any) -> tuple[str, int, str, Server]:
        server = Server(outermost(app, settings), listener, settings.patience)
        server.run_in_thread()
        host, port = listener.getsockname()[:2]
        return host, port, address_of(listener), server

    with patch("gradio.http_server.start_server", start_server):
        _, address, _ = page.launch(prevent_thread_lock=True, **options)
    return address
