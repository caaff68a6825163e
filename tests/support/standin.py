"""Small HTTP servers on the loopback address that stand in for the hub and for picture hosts."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


class LocalServer:
    """Runs `handler` on a free port for as long as the `with` block lasts."""

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler]):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class QuietHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class PictureHost(LocalServer):
    """Serves what each path's function makes of the request."""

    def __init__(self, pages: dict[str, Callable[[QuietHandler], None]]):
        class Handler(QuietHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path)
                try:
                    page(self) if page else self.reply(404)
                except (BrokenPipeError, ConnectionResetError):
                    pass

        super().__init__(Handler)


class HubStandIn(LocalServer):
    """The parts of the hub that loading a model needs, in the hub's own layout.

    `behave` sets what goes wrong: "ok", "404", "401", "gated", "hang" (accept, never answer), "cut"
    (the first transfer of the weights stops half way), "slow" (the weights trickle).
    """

    def __init__(self, models: dict[str, Path]):
        self.behave = "ok"
        self.ranges: list[str] = []
        self.served_weights = 0
        self._cut_done = False
        hub = self

        class Handler(QuietHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                try:
                    hub._answer(self, models)
                except (BrokenPipeError, ConnectionResetError):
                    pass

        super().__init__(Handler)

    def _answer(self, request: QuietHandler, models: dict[str, Path]) -> None:
        if self.behave == "hang":
            time.sleep(30)
            return
        if self.behave == "401":
            return request.reply(401, X_Error_Message="Invalid credentials.")
        if self.behave == "gated":
            return request.reply(403, X_Error_Code="GatedRepo")
        path = request.path.split("?")[0]
        name = path.removeprefix("/api/models/") if path.startswith("/api/") else None
        if name is None:
            name, _, rest = path.lstrip("/").partition("/resolve/")
        folder = models.get(name.split("/revision/")[0])
        if folder is None or self.behave == "404":
            return request.reply(404, X_Error_Code="RepoNotFound")
        if path.startswith("/api/"):
            files = [
                {"rfilename": file.name, "size": file.stat().st_size}
                for file in sorted(folder.iterdir())
            ]
            info = {"id": name, "modelId": name, "sha": "a" * 40, "siblings": files}
            body = json.dumps(info).encode()
            return request.reply(200, body, Content_Type="application/json")
        self._send_file(request, folder / rest.partition("/")[2])

    def _send_file(self, request: QuietHandler, file: Path) -> None:
        if not file.is_file():
            return request.reply(404, X_Error_Code="EntryNotFound")
        content = file.read_bytes()
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        headers = {"ETag": etag, "X_Repo_Commit": "a" * 40, "Accept_Ranges": "bytes"}
        if request.command == "HEAD":
            return request.reply(200, Content_Length=str(len(content)), **headers)
        status, wanted = 200, request.headers.get("Range")
        if wanted:
            self.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        weights = file.suffix == ".safetensors"
        self.served_weights += weights
        if weights and self.behave == "cut" and not self._cut_done:
            self._cut_done = True
            request.reply(status, content[: len(content) // 2], Content_Length=str(len(content)))
            request.close_connection = True
        elif weights and self.behave == "slow":
            request.reply(status, Content_Length=str(len(content)), **headers)
            for at in range(0, len(content), 65536):
                request.wfile.write(content[at : at + 65536])
                time.sleep(0.15)
        else:
            request.reply(status, content, **headers)
