"""What a stranger can do to the server over HTTP, and what stands in the way."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from rtdetr_demo.api.gradio_routes import OPEN, is_open
from rtdetr_demo.api.server import address_of, listen
from rtdetr_demo.api.uploads import Uploads
from rtdetr_demo.errors import DemoError
from rtdetr_demo.serving import scratch as scratch_module
from rtdetr_demo.serving.scratch import Scratch
from tests.support.app import App, run_async
from tests.support.paths import EXAMPLES, REPO

PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()


def healthy(app: App, seconds: float = 5) -> None:
    began = time.monotonic()
    assert httpx.get(f"{app.url}/healthz", timeout=seconds).status_code == 200
    assert time.monotonic() - began < seconds
    assert "Traceback" not in app.printed


# --- Gradio's routes ------------------------------------------------------------------------------

SHUT = {
    "/svelte/{path:path}",
    "/gradio_api/deep_link",
    "/monitoring",
    "/monitoring/summary",
    "/monitoring/{key}",
    "/openapi.json",
    "/gradio_api/token",
    "/gradio_api/token/",
    "/gradio_api/dev/reload",
    "/gradio_api/runs",
    "/gradio_api/runs/",
    "/gradio_api/run-history/connect",
    "/gradio_api/run-history/buckets",
    "/gradio_api/run-history/records",
    "/gradio_api/run-history/records/{endpoint}/{record_id}/assets/{asset_id}",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}",
    "/gradio_api/proxy={url_path:path}",
    "/gradio_api/stream/{event_id}",
    "/gradio_api/stream/{event_id}/close",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file",
    "/gradio_api/file/{path:path}",
    "/gradio_api/run/{api_name}",
    "/gradio_api/run/{api_name}/",
    "/gradio_api/api/{api_name}",
    "/gradio_api/api/{api_name}/",
    "/gradio_api/upload_progress",
    "/gradio_api/process_recording",
    "/gradio_api/vibe-edit/",
    "/gradio_api/vibe-edit",
    "/gradio_api/undo-vibe-edit/",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/vibe-code/",
    "/gradio_api/vibe-code",
    "/gradio_api/vibe-starter-queries/",
    "/gradio_api/vibe-starter-queries",
}

_WALK = """
import json, sys
sys.path.insert(0, ".")
from rtdetr_demo.api.app import Api
from rtdetr_demo.serving.scratch import Scratch
from rtdetr_demo.serving.service import Service
from rtdetr_demo.settings import Settings
settings = Settings(checkpoint="bundled")
scratch = Scratch()
scratch.use_for_everything()
from gradio.routes import App
from rtdetr_demo.ui.page import build
from rtdetr_demo.ui.front_end import FrontEnd
page = build(Service(settings, scratch), FrontEnd())
app = App.create_app(page, mcp_server=True)

def walk(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "original_router", route)
        path = prefix + getattr(route, "path", "")
        if getattr(inner, "routes", None):
            yield from walk(inner.routes, path)
        if path:
            yield path

print("ROUTES" + json.dumps(sorted(set(walk(app.routes)))))
"""


def test_every_route_of_gradio_is_open_or_shut_on_purpose():
    """A new version of Gradio with a route that nobody has thought of fails here."""
    walked = subprocess.run(
        [sys.executable, "-c", _WALK], cwd=REPO, capture_output=True, text=True, timeout=120
    )
    assert "ROUTES" in walked.stdout, walked.stderr
    routes = set(json.loads(walked.stdout.rpartition("ROUTES")[2]))
    assert len(routes) > 60
    mounts = {"/gradio_api/mcp/messages"}
    assert sorted(routes - set(OPEN) - SHUT - mounts) == []


@pytest.mark.parametrize("path", sorted(SHUT))
def test_what_is_shut_is_not_open_under_another_name(path: str):
    concrete = path.replace("{path:path}", "a/b").replace("{url_path:path}", "http://127.0.0.1/")
    assert not is_open(concrete)


def test_routes_that_the_demo_does_not_use_are_shut(app: App):
    for method, path in [
        ("POST", "/gradio_api/process_recording"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/vibe-code"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("POST", "/gradio_api/stream/x"),
        ("POST", "/gradio_api/run/detect"),
        ("GET", "/gradio_api/file/etc/passwd"),
    ]:
        answer = httpx.request(method, app.url + path, timeout=10)
        assert answer.status_code == 404, path
        assert "nothing at this address" in answer.json()["detail"]


@pytest.fixture
def inner() -> Iterator[tuple[str, list[str]]]:
    """A server of the machine's own that must not be asked."""
    asked: list[str] = []

    class Secret(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Secret)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_files_are_of_the_scratch_folder_and_nothing_is_fetched(
    app: App, inner: tuple[str, list[str]], tmp_path: Path
):
    url, asked = inner
    (tmp_path / "secret.txt").write_text("secret")
    here = [str(tmp_path / "secret.txt"), str(REPO / "app.py"), "requirements.txt", "/etc/passwd"]
    for name in [f"{url}/metadata", f"{url.upper()}/x", "//127.0.0.1/x", *here]:
        answer = httpx.get(f"{app.url}/gradio_api/file={name}", timeout=10)
        assert answer.status_code == 404, name
        assert "no such file" in answer.json()["detail"]
    assert asked == []
    own = upload(app, [("files", "../../a b.html", b"<script>alert(1)</script>")]).json()[0]
    answer = httpx.get(f"{app.url}/gradio_api/file={own}")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-security-policy"].startswith("sandbox; ")
    assert Path(own).name == "a b.html"
    outside = f"{own}/../../../../lock"
    assert httpx.get(f"{app.url}/gradio_api/file={outside}").status_code == 404


# --- Bodies and uploads ---------------------------------------------------------------------------


def test_a_large_body_to_the_page_is_refused_and_costs_nothing(app: App):
    before = app.memory_mb
    body = b'{"data":[' + b"0," * (20 * 2**20) + b"0]}"
    for path in ("component_server", "queue/join", "call/detect", "cancel"):
        headers = {"content-type": "application/json"}
        answer = httpx.post(
            f"{app.url}/gradio_api/{path}", content=body, headers=headers, timeout=60
        )
        assert answer.status_code == 413, path
        assert "4 MB" in answer.json()["detail"]
    assert app.memory_mb - before < 50
    healthy(app)


def upload(app: App, files: list[tuple[str, str, bytes]]) -> httpx.Response:
    parts = [(field, (name, content)) for field, name, content in files]
    return httpx.post(f"{app.url}/gradio_api/upload", files=parts, timeout=60)


def scratch_of(app: App) -> Path:
    return Path(upload(app, [("files", "a.jpg", b"x")]).json()[0]).parents[3]


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_uploads_are_kept_whole_or_not_at_all(app: App):
    scratch = scratch_of(app)
    before = files_in(scratch)
    assert upload(app, [("other", "a.jpg", PHOTO)]).status_code == 400
    assert upload(app, [("files", "a.jpg", PHOTO), ("other", "b.jpg", PHOTO)]).status_code == 400
    assert upload(app, [("files", f"{n}.jpg", b"x") for n in range(17)]).status_code == 400
    assert files_in(scratch) == before
    for _ in range(3):  # broken off after a megabyte
        line = socket.create_connection(("127.0.0.1", app.port))
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: "
            'form-data; name="files"; filename="a.jpg"\r\n\r\n'
        )
        line.sendall(head.encode() + bytes(3 * 2**20))
        time.sleep(0.3)
        line.close()
    time.sleep(1)
    assert files_in(scratch) == before
    kept = upload(app, [("files", "a.jpg", PHOTO), ("files", "b.jpg", b"x")])
    assert [Path(path).read_bytes() for path in kept.json()] == [PHOTO, b"x"]
    healthy(app)


def test_uploads_of_one_visitor_make_room_for_each_other_and_not_at_the_cost_of_others(tmp_path):
    scratch = Scratch(tmp_path)
    uploads = Uploads(scratch, 2**20, 10, total_bytes=400_000)

    def send(client: str, files: int = 1) -> list[Path]:
        answers = []
        part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        body = (part + b"x" * 40_000 + b"\r\n") * files + b"--b--\r\n"
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]

        async def receive() -> dict:
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(message: dict) -> None:
            answers.append(message.get("body", b""))

        run_async(
            uploads({"type": "http", "method": "POST", "headers": headers}, receive, answer, client)
        )
        return [Path(path) for path in json.loads(b"".join(answers))]

    [theirs] = send("them")
    mine = [send("me")[0] for _ in range(5)]
    assert theirs.exists()
    assert [one.exists() for one in mine] == [False, False, False, True, True]
    together = send("me", files=4)  # more than the share, in one upload
    assert theirs.exists()
    assert all(one.exists() for one in together)
    assert not any(one.exists() for one in mine)
    scratch.close()


def test_an_upload_over_the_limit_is_refused_before_it_is_sent(app: App):
    line = socket.create_connection(("127.0.0.1", app.port), timeout=20)
    line.sendall(
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99000000000\r\n"
        b"Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    assert line.recv(12) == b"HTTP/1.1 413"
    line.close()


def test_a_full_disk_is_said_before_an_upload_is_taken(app: App, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch_module, "SPARE_BYTES", 2**62)
    scratch = Scratch()
    headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "headers": headers}

    async def receive() -> dict:
        return {"type": "http.request", "body": b"--b--", "more_body": False}

    async def send(_: object) -> None:
        raise AssertionError("nothing was taken")

    with pytest.raises(DemoError) as full:
        run_async(Uploads(scratch, 2**20, 10)(scope, receive, send, "someone"))
    assert full.value.status == 507
    scratch.close()


# --- Connections ----------------------------------------------------------------------------------


def lines_to(port: int, count: int, begin: bytes, source: str = "127.0.0.1") -> list[socket.socket]:
    lines = []
    for _ in range(count):
        line = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
        line.sendall(begin)
        lines.append(line)
    return lines


@pytest.mark.load
def test_half_sent_headers_do_not_shut_others_out(everywhere: App):
    app = everywhere  # where less patience is had
    lines = lines_to(app.port, 1200, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", "127.0.0.2")
    for _ in range(3):
        healthy(app)
    deadline = time.monotonic() + 20
    for line in lines:  # each is hung up on
        line.settimeout(max(deadline - time.monotonic(), 0.1))
        while line.recv(65536):
            pass
        line.close()
    healthy(app)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2**20,
        b"GET /" + b"a" * 2**20,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 2**18,
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nX: " + b"a" * 2**21,
    ],
    ids=["one header", "an address", "many headers", "a trailer"],
)  # fmt: skip
def test_endless_headers_are_cut(app: App, head: bytes):
    began = time.monotonic()
    line = socket.create_connection(("127.0.0.1", app.port), timeout=20)
    try:
        for start in range(0, len(head), 2**16):
            line.sendall(head[start : start + 2**16])
        answer = b"".join(iter(lambda: line.recv(65536), b""))
        assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 405")
    except (ConnectionResetError, BrokenPipeError):
        pass  # hung up on while it was sending
    assert time.monotonic() - began < 5
    healthy(app)


@pytest.mark.load
def test_empty_lines_do_not_hold_a_connection(everywhere: App):
    line = socket.create_connection(("127.0.0.1", everywhere.port), timeout=20)
    line.sendall(b"\r\n")
    assert line.recv(100) == b""


# --- Names and origins ----------------------------------------------------------------------------


def test_other_sites_cannot_reach_a_demo_for_this_machine(app: App):
    rebound = httpx.get(app.url, headers={"host": f"evil.example:{app.port}"})
    assert rebound.status_code == 403
    assert "RTDETR_TRUSTED_HOSTS" in rebound.json()["detail"]
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert httpx.get(app.url, headers={"host": f"{host}:{app.port}"}).status_code == 200
    call = json.dumps({"data": {}, "fn_name": "status", "session_hash": "a", "component_id": 1})
    for headers in (
        {"origin": "https://evil.example", "content-type": "text/plain"},
        {"origin": "https://evil.example", "content-type": "application/json"},
        {"origin": "null", "content-type": "text/plain"},
    ):
        answer = httpx.post(f"{app.url}/gradio_api/component_server", content=call, headers=headers)
        assert answer.status_code == 403, headers
    files = {"files": ("a.jpg", b"x")}
    crossing = httpx.post(
        f"{app.url}/gradio_api/upload", files=files, headers={"origin": "https://evil.example"}
    )
    assert crossing.status_code == 403
    plain = httpx.post(
        f"{app.url}/gradio_api/component_server",
        content=call,
        headers={"content-type": "text/plain"},
    )
    assert plain.status_code == 415


def test_what_a_proxy_passes_on_is_not_this_machine(app: App):
    body = {"content": PHOTO, "timeout": 60}
    kind = {"content-type": "image/jpeg"}
    assert httpx.post(f"{app.url}/v1/detect", headers=kind, **body).status_code in (200, 503)
    for extra in (
        {"x-forwarded-for": "203.0.113.5"},
        {"x-forwarded-for": "127.0.0.1"},
        {"forwarded": "for=203.0.113.5"},
        {"x-real-ip": "203.0.113.5"},
    ):
        answer = httpx.post(f"{app.url}/v1/detect", headers=kind | extra, **body)
        assert answer.status_code == 401, extra
    assert "FORWARDED_ALLOW_IPS" in app.printed


# --- Start and end --------------------------------------------------------------------------------


def run(*arguments: str, **environ: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "app.py", "--checkpoint", "bundled", *arguments],
        cwd=REPO,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = run(GRADIO_SERVER_PORT=str(port))
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"Port {port} is taken" in said
    assert "Traceback" not in said


def test_a_host_that_is_not_ours_is_said():
    process = run("--host", "203.0.113.5")
    said, _ = process.communicate(timeout=60)
    assert "no address of this machine" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_one_address_of_ipv6_can_be_listened_on(host: str):
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://[::1]:{port}/"
        socket.create_connection(("::1", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.fixture(scope="module")
def everywhere(tiny: Path) -> Iterator[App]:
    """An app that others can reach, on IPv6 too where this machine has it, of little patience."""
    host = "::" if socket.has_ipv6 else "0.0.0.0"
    running = App(
        "--checkpoint", str(tiny), "--host", host, "--patience", "4",
        HF_HUB_OFFLINE="1", RTDETR_API_KEYS="k",
    )  # fmt: skip
    running.wait_until_ready()
    yield running
    running.process.kill()
    running.process.wait()


@pytest.mark.load
@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_it_listens_on_ipv6(everywhere: App):
    port = everywhere.port
    assert f"open http://[::1]:{port}/" in everywhere.printed
    for name in ("[::1]", "127.0.0.1"):
        assert httpx.get(f"http://{name}:{port}/healthz", timeout=20).status_code == 200


@pytest.mark.load
def test_a_second_interrupt_ends_what_the_first_waits_for(everywhere: App):
    """The last test of this app: it ends."""
    line = socket.create_connection(("127.0.0.1", everywhere.port))
    line.sendall(
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer k\r\n"
        b"Content-Type: image/jpeg\r\nContent-Length: 100\r\n\r\nx"
    )
    time.sleep(1)
    everywhere.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        everywhere.process.wait(1.5)
    everywhere.process.send_signal(signal.SIGINT)
    assert everywhere.process.wait(3) == 130
    line.close()


# --- A proxy's path, and logging in ---------------------------------------------------------------


def test_a_path_prefix_and_a_login(tiny: Path):
    running = App(
        "--checkpoint", str(tiny), HF_HUB_OFFLINE="1", GRADIO_ROOT_PATH="/demo",
        RTDETR_AUTH="ada:lovelace", RTDETR_API_KEYS="k",
    )  # fmt: skip
    try:
        url = running.url
        key = {"headers": {"authorization": "Bearer k"}}
        docs = httpx.get(f"{url}/docs", **key).text
        assert "/demo/docs-static/" in docs
        assert "/demo/openapi.json" in docs
        for prefix in ("", "/demo"):  # proxies take it off, or leave it on
            assert httpx.get(f"{url}{prefix}/docs", **key).status_code == 200
            schema = httpx.get(f"{url}{prefix}/openapi.json", **key).json()
            assert schema["servers"] == [{"url": "/demo"}]
            assert httpx.get(f"{url}{prefix}/healthz").status_code == 200
        ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = {"accept": "application/json, text/event-stream"}

        def tools(**options: object) -> int:
            headers = accept | dict(options.pop("headers", {}))  # type: ignore[call-overload]
            return httpx.post(
                f"{url}/gradio_api/mcp/", json=ask, headers=headers, **options
            ).status_code

        files = {"files": ("a.jpg", b"x")}
        assert tools() == 401
        assert httpx.post(f"{url}/gradio_api/upload", files=files).status_code == 401
        assert httpx.get(f"{url}/config").status_code == 401
        assert tools(auth=("ada", "wrong")) == 401
        assert tools(headers={"authorization": "Bearer wrong"}) == 401
        assert tools(auth=("ada", "lovelace")) == 200
        assert tools(headers={"authorization": "Bearer k"}) == 200
        with httpx.Client(base_url=url) as person:
            data = {"username": "ada", "password": "lovelace"}
            assert person.post("/login", data=data).status_code == 200
            assert person.get("/config").status_code == 200
            assert person.post("/gradio_api/upload", files=files).status_code == 200
        assert "lovelace" not in running.printed
    finally:
        running.stop()
