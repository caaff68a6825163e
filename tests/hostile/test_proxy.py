"""`deploy/nginx.conf` in the real nginx: what it passes on to the app, and what it does not."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.app import App
from tests.support.frames import message, watching
from tests.support.paths import EXAMPLES
from tests.support.proxy import HOST, Proxy, nginx

KEY = "the-right-key"
PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()
DETECT = {"content-type": "image/jpeg", "authorization": f"Bearer {KEY}"}
CONNECTIONS_PER_CLIENT = 100
CONNECTIONS = 2000
TIMEOUT = 10
"""Seconds for a header, and between two parts of a body or of an answer."""


class Backend:
    """An HTTP server that records what reaches it, in place of the app."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.ended: list[str] = []
        """Paths of the requests whose connection the proxy has closed before their end."""
        self.may_go_on = threading.Event()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): self.headers.get_all(name) or [] for name in self.headers}
                backend.requests.append((self.path, headers))
                try:
                    self._answer()
                except OSError:
                    backend.ended.append(self.path)
                    self.close_connection = True

            do_POST = do_GET  # noqa: N815

            def _answer(self) -> None:
                if self.path == "/events":
                    self._start("text/event-stream")
                    self.wfile.write(b"data: 1\n\n")
                    assert backend.may_go_on.wait(20)
                    self.wfile.write(b"data: 2\n\n")
                elif self.path == "/endless":
                    self._start("application/octet-stream")
                    while True:
                        self.wfile.write(bytes(2**16))
                else:
                    self._read(int(self.headers.get("content-length", "0")))
                    if self.headers.get("transfer-encoding") == "chunked":
                        while size := int(self.rfile.readline() or b"-1", 16):
                            self._read(size + 2)
                        self._read(2)
                    self.send_response(200)
                    self.send_header("content-length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")

            def _read(self, size: int) -> None:
                while size > 0:
                    if not (read := self.rfile.read1(min(size, 2**16))):
                        raise ConnectionResetError
                    size -= len(read)
                if size < 0:
                    raise ConnectionResetError

            def _start(self, kind: str) -> None:
                self.close_connection = True
                self.send_response(200)
                self.send_header("content-type", kind)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def proxy_for(port: int, path: str = "") -> Iterator[Proxy]:
    proxy = Proxy(port, path)
    try:
        yield proxy
        assert "[alert]" not in proxy.printed
        assert "[emerg]" not in proxy.printed
    finally:
        proxy.stop()


@contextmanager
def app_for(checkpoint: Path, **environ: str) -> Iterator[App]:
    """An app with the settings that docs/hosting.md names."""
    app = App(
        "--checkpoint", str(checkpoint), HF_HUB_OFFLINE="1", RTDETR_API_KEYS=KEY,
        FORWARDED_ALLOW_IPS="127.0.0.1", RTDETR_TRUSTED_HOSTS=HOST, **environ,
    )  # fmt: skip
    try:
        app.wait_until_ready()
        yield app
    finally:
        app.process.kill()
        app.process.wait()


@pytest.fixture(scope="module")
def app(tiny: Path, proxy_is_installed: None) -> Iterator[App]:
    with app_for(tiny) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(app: App) -> Iterator[Proxy]:
    """nginx in front of the app."""
    with proxy_for(app.port) as running:
        yield running


@pytest.fixture(scope="module")
def proxy_is_installed() -> None:
    """Skips the test where it is not, before an app is started."""
    nginx()


@pytest.fixture
def backend() -> Iterator[Backend]:
    running = Backend()
    yield running
    running.may_go_on.set()
    running.stop()


@pytest.fixture
def front(backend: Backend) -> Iterator[Proxy]:
    """nginx in front of the recording server."""
    with proxy_for(backend.port) as running:
        yield running


def healthy(proxy: Proxy, address: str = "127.0.0.1", seconds: float = 5) -> None:
    """Three requests from an address that takes no part in the attack are answered in time."""
    for _ in range(3):
        began = time.monotonic()
        with proxy.client(address, timeout=seconds) as client:
            assert client.get("/healthz").status_code == 200
        assert time.monotonic() - began < seconds


def still_open(lines: list[socket.socket]) -> int:
    """How many of the connections the proxy has not closed."""
    count = 0
    for line in lines:
        line.settimeout(0)
        try:
            while line.recv(2**16):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            count += 1
        except OSError:
            pass
    return count


def wait_until_open(lines: list[socket.socket], expected: int, seconds: float = 3) -> None:
    """Wait until the proxy has closed all connections but `expected`."""
    end = time.monotonic() + seconds
    while (count := still_open(lines)) > expected and time.monotonic() < end:
        time.sleep(0.1)
    assert count == expected


def wait_until_closed(lines: list[socket.socket], seconds: float) -> None:
    wait_until_open(lines, 0, seconds)


def close(lines: list[socket.socket]) -> None:
    for line in lines:
        line.close()


def answer_to(line: socket.socket, content: bytes) -> bytes:
    """Everything that is sent back until the connection ends; b"" where it was reset."""
    answer = b""
    try:
        for start in range(0, len(content), 2**14):
            line.sendall(content[start : start + 2**14])
        while part := line.recv(2**16):
            answer += part
    except TimeoutError:
        raise
    except OSError:
        pass
    return answer


# --- The demo through the proxy -------------------------------------------------------------------


def test_the_page_and_the_api(proxy: Proxy):
    with proxy.client() as client:
        page = client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["server"] == "nginx"
        assert "strict-transport-security" in page.headers
        detected = client.post("/v1/detect", headers=DETECT, content=PHOTO)
        assert detected.status_code == 200, detected.text
        assert "detections" in detected.text
        closed = client.post("/v1/detect", headers={"content-type": "image/jpeg"}, content=PHOTO)
        assert closed.status_code == 401


def test_the_camera(proxy: Proxy):
    with watching(
        proxy,  # type: ignore[arg-type]
        sock=proxy.connect(), ssl=proxy.tls, origin=proxy.url,
    ) as ask:  # fmt: skip
        for frame in (1, 2):
            answer = ask(message(frame=frame))
            assert answer["frame"] == frame
            assert "error" not in answer
    with (
        pytest.raises(InvalidStatus) as refused,
        watching(
            proxy,  # type: ignore[arg-type]
            sock=proxy.connect(), ssl=proxy.tls, origin="https://evil.example",
        ),
    ):  # fmt: skip
        pass
    assert refused.value.response.status_code == 403


def test_under_a_path(tiny: Path, proxy_is_installed: None):
    with app_for(tiny, GRADIO_ROOT_PATH="/demo") as app, proxy_for(app.port, "/demo") as proxy:
        with proxy.client() as client:
            moved = client.get("/demo")
            assert (moved.status_code, moved.headers["location"]) == (308, f"{proxy.url}/demo/")
            assert client.get("/demo/").status_code == 200
            schema = client.get("/demo/openapi.json").json()
            assert schema["servers"] == [{"url": "/demo"}]
            assert client.post("/demo/v1/detect", headers=DETECT, content=PHOTO).status_code == 200
            # The rest of the host is not the app's.
            assert client.get("/healthz").status_code == 404
            assert client.get("/demolition/healthz").status_code == 404
        proxy.url += "/demo"
        with watching(proxy, sock=proxy.connect(), ssl=proxy.tls) as ask:  # type: ignore[arg-type]
            assert ask(message(frame=1))["frame"] == 1


def test_events_arrive_as_they_are_sent(front: Proxy, backend: Backend):
    with front.client(timeout=5) as client, client.stream("GET", "/events") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"data: 1\n\n"  # the second is not sent before this has arrived
        backend.may_go_on.set()
        assert b"".join(parts) == b"data: 2\n\n"


def test_plain_http_is_redirected(front: Proxy, backend: Backend):
    answer = httpx.get(
        f"http://127.0.0.1:{front.plain_port}/a?b=c", headers={"host": "evil.example"}
    )
    assert answer.status_code == 301
    assert answer.headers["location"] == f"https://{HOST}/a?b=c"
    assert backend.requests == []


# --- Forged headers and names ---------------------------------------------------------------------


def test_forged_forwarding_headers_do_not_reach_the_app(front: Proxy, backend: Backend):
    forged = {
        "x-forwarded-for": "203.0.113.5",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "gopher",
        "x-forwarded-port": "1",
        "x-forwarded-prefix": "/evil",
        "x-gradio-server": "https://evil.example",
        "x-real-ip": "203.0.113.5",
        "forwarded": "for=203.0.113.5;host=evil.example",
        "x_forwarded_for": "203.0.113.5",
        "connection": "upgrade",
        "upgrade": "h2c",
    }
    with front.client("127.0.0.2") as client:
        assert client.get("/", headers=forged).status_code == 200
        twice = [*forged.items(), ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "b")]
        assert client.get("/", headers=twice).status_code == 200
    assert len(backend.requests) == 2
    for _, headers in backend.requests:
        kept = {name: headers[name] for name in headers if name in forged or name == "host"}
        assert kept == {
            "host": [f"{HOST}:{front.port}"],
            "x-forwarded-for": ["127.0.0.2"],
            "x-forwarded-host": [f"{HOST}:{front.port}"],
            "x-forwarded-proto": ["https"],
            "connection": ["close"],
        }


def test_the_app_sees_the_address_of_the_client(proxy: Proxy, app: App):
    headers = {"x-forwarded-for": "127.0.0.1", "x-request-id": "forged-address"}
    with proxy.client("127.0.0.3") as client:
        assert client.post("/v1/detect", headers=headers, content=PHOTO).status_code == 401
    end = time.monotonic() + 5
    while not (lines := [one for one in list(app.lines) if "forged-address" in one]):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert [json.loads(one)["client"] for one in lines] == ["127.0.0.3"]


def test_other_names_do_not_reach_the_app(front: Proxy, backend: Backend):
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    for name in ("evil.example", None):
        with pytest.raises(ssl.SSLError):
            tls.wrap_socket(front.connect(), server_hostname=name)
    with front.client() as client:
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert backend.requests == []
    # The name in the request line counts, and the app sees no other.
    line = front.connect_tls()
    answer_to(
        line,
        f"GET https://{HOST}/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode(),
    )
    assert [headers["host"] for _, headers in backend.requests] == [[f"{HOST}:{front.port}"]]


# --- Headers and bodies ---------------------------------------------------------------------------

_HOST = f"Host: {HOST}\r\n".encode()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"a" * 2**20,
        b"GET /" + b"a" * 2**20,
        b"GET / HTTP/1.1\r\n" + _HOST + b"X: a\r\n" * 2**18,
        b"GET / HTTP/1.1\r\n" + _HOST + (b"X: " + b"a" * 8000 + b"\r\n") * 9 + b"\r\n",
    ],
    ids=["a large header", "an endless header", "an address", "many headers", "64 KB in all"],
)
def test_large_and_endless_headers_are_cut(front: Proxy, backend: Backend, head: bytes):
    line = front.connect_tls(timeout=20)
    began = time.monotonic()
    assert answer_to(line, head)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 414", b"")
    assert time.monotonic() - began < 5
    assert backend.requests == []
    healthy(front)


def test_bodies_end_at_the_limit_of_their_path(front: Proxy, backend: Backend):
    def status(path: str, megabytes: float) -> int:
        """The answer to the header alone, or 0 where the request is passed on."""
        before = len(backend.requests)
        line = front.connect_tls()
        line.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\n"
            f"Content-Length: {int(megabytes * 2**20)}\r\n\r\n".encode()
        )
        answer = line.recv(2**12)
        if is_taken := answer.startswith(b"HTTP/1.1 100"):
            end = time.monotonic() + 5
            while len(backend.requests) == before:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert backend.requests[-1][0] == path
        line.close()
        return 0 if is_taken else int(answer[9:12])

    for path in ("/v1/detect", "/gradio_api/queue/join", "/v1/videos/x", "/x/gradio_api/upload/y"):
        assert status(path, 64) == 0, path
        assert status(path, 64.1) == 413, path
    for path in ("/gradio_api/upload", "/gradio_api/upload?upload_id=a", "/v1/videos"):
        assert status(path, 512.5) == 0, path
        assert status(path, 513.1) == 413, path
    # Without a length up front it is no different.
    chunks = (bytes(2**20) for _ in range(66))
    with front.client() as client:
        assert client.post("/v1/detect", content=chunks).status_code == 413


def test_a_body_of_an_unknown_key_is_not_read(proxy: Proxy):
    """The app answers before the body has arrived, which the proxy does not wait for either."""
    line = proxy.connect_tls(timeout=20)
    line.sendall(
        f"POST /v1/detect HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer wrong\r\n"
        "Expect: 100-continue\r\nContent-Length: 60000000\r\n\r\n".encode()
    )
    answer = b""
    while b"401" not in answer:
        part = line.recv(2**12)
        assert part
        answer += part
    line.close()


# --- Attacks --------------------------------------------------------------------------------------


@pytest.mark.load
def test_idle_connections_of_an_address(proxy: Proxy):
    lines = [proxy.connect("127.0.0.10") for _ in range(1200)]
    wait_until_open(lines, CONNECTIONS_PER_CLIENT)
    healthy(proxy)
    with proxy.client("127.0.0.11") as client:
        assert client.post("/v1/detect", headers=DETECT, content=PHOTO).status_code == 200
    with pytest.raises((httpx.HTTPError, OSError)), proxy.client("127.0.0.10") as client:
        client.get("/healthz")
    wait_until_closed(lines, TIMEOUT + 5)
    healthy(proxy, "127.0.0.10")
    close(lines)


@pytest.mark.load
def test_idle_connections_of_many_addresses(proxy: Proxy):
    lines = [
        proxy.connect(f"127.0.1.{client}")
        for client in range(1, 26)
        for _ in range(CONNECTIONS_PER_CLIENT)
    ]
    wait_until_open(lines, CONNECTIONS)
    wait_until_closed(lines, TIMEOUT + 5)
    healthy(proxy)
    close(lines)


@pytest.mark.load
@pytest.mark.parametrize("trickle", [b"", b"a"], ids=["half-sent", "byte by byte"])
def test_slow_headers(front: Proxy, backend: Backend, trickle: bytes):
    lines: list[socket.socket] = []
    for _ in range(CONNECTIONS_PER_CLIENT):
        line = front.connect_tls("127.0.0.12")
        line.sendall(b"GET /slow HTTP/1.1\r\n" + _HOST + b"X: ")
        lines.append(line)
    assert still_open(lines) == CONNECTIONS_PER_CLIENT
    healthy(front)
    end = time.monotonic() + TIMEOUT + 5
    while (count := still_open(lines)) and time.monotonic() < end:
        for line in lines:
            line.settimeout(1)
            try:
                line.sendall(trickle)
            except OSError:
                pass
        time.sleep(0.5)
    assert count == 0
    assert all(path != "/slow" for path, _ in backend.requests)
    healthy(front, "127.0.0.12")
    close(lines)


@pytest.mark.load
def test_slow_bodies(front: Proxy, backend: Backend):
    lines: list[socket.socket] = []
    for _ in range(CONNECTIONS_PER_CLIENT):
        line = front.connect_tls("127.0.0.13")
        line.sendall(b"POST /slow HTTP/1.1\r\n" + _HOST + b"Content-Length: 100\r\n\r\nx")
        lines.append(line)
    healthy(front)
    assert still_open(lines) == CONNECTIONS_PER_CLIENT
    wait_until_closed(lines, TIMEOUT + 5)
    time.sleep(0.5)
    assert backend.ended == ["/slow"] * CONNECTIONS_PER_CLIENT
    close(lines)


@pytest.mark.load
def test_slow_bodies_in_front_of_the_app(proxy: Proxy):
    lines: list[socket.socket] = []
    for _ in range(CONNECTIONS_PER_CLIENT):
        line = proxy.connect_tls("127.0.0.14")
        line.sendall(
            b"POST /v1/detect HTTP/1.1\r\n" + _HOST + b"Content-Type: image/jpeg\r\n"
            b"Authorization: Bearer " + KEY.encode() + b"\r\nContent-Length: 9000\r\n\r\nx"
        )
        lines.append(line)
    healthy(proxy)
    with proxy.client() as client:
        assert client.post("/v1/detect", headers=DETECT, content=PHOTO).status_code == 200
    wait_until_closed(lines, TIMEOUT + 10)
    healthy(proxy)
    close(lines)


@pytest.mark.load
def test_answers_that_are_not_read(front: Proxy, backend: Backend):
    lines: list[socket.socket] = []
    for _ in range(20):
        line = front.connect_tls("127.0.0.15")
        line.sendall(b"GET /endless HTTP/1.1\r\n" + _HOST + b"\r\n")
        lines.append(line)
    time.sleep(2)
    assert backend.ended == []
    healthy(front)
    end = time.monotonic() + TIMEOUT + 5
    while len(backend.ended) < len(lines) and time.monotonic() < end:
        time.sleep(0.2)
    assert backend.ended == ["/endless"] * len(lines)
    close(lines)


@pytest.mark.load
def test_a_flood_of_requests(front: Proxy, backend: Backend):
    began = time.monotonic()
    with front.client("127.0.0.16") as client:
        statuses = [client.get("/flood").status_code for _ in range(600)]
        took = time.monotonic() - began
        healthy(front)
        time.sleep(1)
        assert client.get("/flood").status_code == 200
    answered = statuses.count(200)
    assert answered + statuses.count(429) == 600
    assert 200 <= answered <= 201 + 30 * (took + 0.1)
    assert answered < 600, f"600 requests in {took:.1f} s are no flood"
    assert sum(path == "/flood" for path, _ in backend.requests) == answered + 1


@pytest.mark.load
def test_requests_under_way_of_an_address(front: Proxy, backend: Backend):
    """An HTTP/2 connection carries many. The same number of connections stands for them here."""
    request = b"GET /events HTTP/1.1\r\n" + _HOST + b"\r\n"
    lines: list[socket.socket] = [
        _as_client(front, "203.0.113.7", request) for _ in range(CONNECTIONS_PER_CLIENT + 20)
    ]
    time.sleep(1)
    refused = 0
    for line in lines:
        line.settimeout(5)
        refused += line.recv(12) == b"HTTP/1.1 429"
    assert refused == 20
    healthy(front)
    backend.may_go_on.set()
    close(lines)


@pytest.mark.load
def test_a_network_of_ipv6_is_one_client(front: Proxy, backend: Backend):
    request = b"GET /six HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n"

    def status(address: str) -> bytes:
        return answer_to(_as_client(front, address, b""), request)[9:12]

    for network in ("2001:db8:1:2:%x::1", "2001:db8::%x"):
        assert any(status(network % number) == b"429" for number in range(1, 2000)), network
    for other in ("2001:db8:1:3::1", "2001:db9::1", "::1"):
        assert status(other) == b"200", other


def _as_client(proxy: Proxy, address: str, content: bytes) -> ssl.SSLSocket:
    """A connection as the stream server makes it for a client of this address."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(20)
    line.connect(str(proxy.socket_path))
    family, own = ("TCP6", "::2") if ":" in address else ("TCP4", "192.0.2.1")
    line.sendall(f"PROXY {family} {address} {own} 50000 443\r\n".encode())
    secure = proxy.tls.wrap_socket(line, server_hostname=HOST)
    secure.sendall(content)
    return secure
