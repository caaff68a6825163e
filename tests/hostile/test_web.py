"""What a page of another site, or a flood of requests, can do to the demo."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from rtdetr_demo.api.auth import Keys
from rtdetr_demo.api.floods import BURST, MAX_PAUSED, PAUSE_SECONDS, RequestRate
from rtdetr_demo.api.outermost import outermost
from rtdetr_demo.settings import Settings
from tests.support.app import App
from tests.support.paths import EXAMPLES, REPO

KEY = "the-right-key"
PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()
EVIL = "http://evil.test"
CALL = json.dumps({"data": {}, "fn_name": "status", "session_hash": "a", "component_id": 1})


@pytest.fixture(scope="module")
def guarded(tiny: Path) -> Iterator[App]:
    """An app for the holders of a key, and with a login."""
    running = App(
        "--checkpoint", str(tiny), HF_HUB_OFFLINE="1", RTDETR_API_KEYS=KEY,
        RTDETR_AUTH="ada:lovelace",
    )  # fmt: skip
    yield running
    running.stop()


def echo(settings: Settings) -> ASGIApp:
    """An app behind the outermost middleware that returns the request as it receives it."""

    async def returned(request: Request) -> JSONResponse:
        client = request.client.host if request.client else ""
        body = {"client": client, "scheme": request.url.scheme, **dict(request.headers)}
        return JSONResponse(body, headers={"Access-Control-Allow-Origin": "*"})

    return outermost(Starlette(routes=[Route("/{path:path}", returned)]), settings)


def client_of(settings: Settings, address: str = "127.0.0.1", host: str = "127.0.0.1:7860"):
    return TestClient(echo(settings), f"http://{host}", client=(address, 5000))


# --- Forwarding headers ---------------------------------------------------------------------------

FORGED = {
    "x-forwarded-host": "evil.test",
    "x-forwarded-proto": "https",
    "x-forwarded-for": "203.0.113.9",
    "forwarded": "for=203.0.113.9;host=evil.test",
    "x-gradio-server": "http://evil.test",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_host_never_gets_into_the_page(app: App, name: str):
    headers = {name: FORGED[name]}
    for path in ("/", "/config", "/gradio_api/mcp/schema"):
        answer = httpx.get(app.url + path, headers=headers)
        assert "evil.test" not in answer.text, path
        assert "https://127.0.0.1" not in answer.text, path
    root = httpx.get(f"{app.url}/config", headers=headers).json()["root"]
    assert root == app.url


def test_forwarding_headers_are_removed_unless_a_trusted_proxy_sends_them(monkeypatch):
    settings = Settings(host="0.0.0.0", trusted_hosts=("demo.example",))
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.5, 10.1.0.0/16")
    sent = {**FORGED, "x-forwarded-host": "demo.example"}
    for address in ("10.0.0.6", "127.0.0.1", "203.0.113.1"):
        seen = client_of(settings, address).get("/", headers=sent).json()
        assert not FORGED.keys() & seen.keys(), address
        assert (seen["client"], seen["scheme"]) == (address, "http")
    for address in ("10.0.0.5", "10.1.2.3"):
        seen = client_of(settings, address).get("/", headers=sent).json()
        assert (seen["client"], seen["scheme"]) == ("203.0.113.9", "https")
        assert seen["x-forwarded-host"] == "demo.example"
        assert "x-gradio-server" not in seen
        forged = client_of(settings, address).get("/", headers=FORGED)
        assert forged.status_code == 403


# --- Hosts and origins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "x.localhost:7860", "localhost.evil.test", "localhost.", "127.0.0.1.evil.test", "evil.test",
        "127.0.0.1@evil.test", "evil.test@127.0.0.1", "127.0.0.1/evil.test", "0.0.0.0", "",
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered(app: App, host: str):
    assert httpx.get(app.url, headers={"host": host}).status_code == 403
    assert httpx.get(f"{app.url}/v1/models", headers={"host": host}).status_code == 403


def test_names_of_this_machine_are_answered(app: App):
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:80", "[::1]:7860"):
        assert httpx.get(app.url, headers={"host": host}).status_code == 200, host
    settings = Settings(trusted_hosts=("x.localhost",))
    assert client_of(settings, host="x.localhost").get("/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://x.localhost:7860"},
        {"origin": "http://127.0.0.1.evil.test"},
        {"origin": EVIL, "x-forwarded-host": "evil.test"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
def test_a_page_of_another_site_can_neither_read_nor_act(app: App, headers: dict[str, str]):
    for path in ("/", "/v1/models", "/config", "/metrics", "/docs", "/gradio_api/info"):
        answer = httpx.get(app.url + path, headers=headers)
        assert answer.status_code == 403, path
        assert not allowed(answer)
    kind = {"content-type": "application/json"}
    for path in ("/gradio_api/component_server", "/gradio_api/queue/join", "/v1/detect"):
        answer = httpx.post(app.url + path, content=CALL, headers=headers | kind)
        assert answer.status_code == 403, path
        assert not allowed(answer)
    files = {"files": ("a.jpg", b"x")}
    uploaded = httpx.post(f"{app.url}/gradio_api/upload", files=files, headers=headers)
    assert uploaded.status_code == 403


def allowed(answer: httpx.Response) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control-allow-")]


@pytest.mark.parametrize("path", ["/", "/v1/detect", "/gradio_api/queue/join", "/healthz"])
def test_a_preflight_from_another_origin_is_refused(app: App, path: str):
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    answer = httpx.options(app.url + path, headers=ask | {"origin": EVIL})
    assert answer.status_code == 403
    assert not allowed(answer)
    own = httpx.options(app.url + path, headers=ask | {"origin": app.url})
    assert own.status_code == 200


def test_a_health_check_says_nothing_to_another_origin(app: App):
    answer = httpx.get(f"{app.url}/healthz", headers={"origin": EVIL})
    assert answer.status_code == 200
    assert not allowed(answer)


def test_a_link_on_another_site_opens_the_page(app: App):
    link = {
        "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document",
    }  # fmt: skip
    assert httpx.get(app.url, headers=link).status_code == 200
    own = {"sec-fetch-site": "same-origin", "origin": app.url}
    assert httpx.get(f"{app.url}/config", headers=own).status_code == 200


def test_a_public_space_can_be_embedded_as_before(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "owner/demo")
    space = client_of(Settings(host="0.0.0.0"), "10.0.0.1", "owner-demo.hf.space")
    answer = space.get("/config", headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    frame = {
        "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe",
    }  # fmt: skip
    login = Settings(host="0.0.0.0", auth=("ada:lovelace",))
    assert client_of(login, "10.0.0.1", "a.hf.space").get("/", headers=frame).status_code == 200


# --- "This machine" -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {"x-forwarded-for": "127.0.0.1"}, {"x-forwarded-for": "localhost"},
        {"x-forwarded-for": "[::1]:80"}, {"x-forwarded-for": ""}, {"x-forwarded-proto": "http"},
        {"x-forwarded-port": "80"}, {"x-real-ip": "127.0.0.1"}, {"forwarded": ""}, {"via": "1.1 a"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("trusted", ["", "127.0.0.1"])
def test_a_forwarded_request_needs_a_key(
    behind: dict[str, App], trusted: str, header: dict[str, str]
):
    url = behind[trusted].url
    assert httpx.get(f"{url}/v1/models").status_code == 200
    assert httpx.get(f"{url}/v1/models", headers=header).status_code == 401


def test_a_public_host_needs_a_key(behind: dict[str, App]):
    """As behind a proxy that adds no header."""
    answer = httpx.get(f"{behind['127.0.0.1'].url}/v1/models", headers={"host": "demo.example"})
    assert answer.status_code == 401


@pytest.fixture(scope="module")
def behind(tiny: Path, app: App) -> Iterator[dict[str, App]]:
    """Apps by the proxies that they trust."""
    running = App(
        "--checkpoint", str(tiny), HF_HUB_OFFLINE="1", FORWARDED_ALLOW_IPS="127.0.0.1",
        RTDETR_TRUSTED_HOSTS="demo.example",
    )  # fmt: skip
    yield {"": app, "127.0.0.1": running}
    running.stop()


def test_with_a_login_the_api_is_never_open(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    settings = Settings(auth=("ada:lovelace",))
    assert settings.api_access == "closed"
    assert not Keys(settings).is_open


# --- Floods ---------------------------------------------------------------------------------------


def flood(app: App, path: str, connections: int, seconds: float, key: str = "wrong") -> dict:
    """The counts of the answers to a flood from 127.0.0.2, by status."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n"
    run = [sys.executable, "-m", "tests.support.flood", str(app.port), str(connections)]
    done = subprocess.run(
        [*run, str(seconds)], input=head.encode(), cwd=REPO, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_wrong_keys_are_answered_after_a_pause_and_logged_in_samples(guarded: App):
    lines = len(guarded.lines)
    began = time.monotonic()
    answer = httpx.get(f"{guarded.url}/v1/models", headers={"x-api-key": "wrong"})
    assert answer.status_code == 401
    assert time.monotonic() - began >= PAUSE_SECONDS
    statuses = flood(guarded, "/v1/models", 2 * MAX_PAUSED, 3)
    assert statuses["401"] <= MAX_PAUSED * (3 / PAUSE_SECONDS + 2)
    assert statuses["429"] > 0
    time.sleep(1.5)
    logged = guarded.lines[lines:]
    assert len(logged) < 100
    assert any("refused_requests_left_out" in line for line in logged)
    right = {"x-api-key": KEY}
    assert httpx.get(f"{guarded.url}/v1/models", headers=right).status_code == 200


def test_a_flood_of_health_checks_is_limited_and_others_are_answered(guarded: App):
    statuses = flood(guarded, "/healthz", 32, 3)
    assert statuses["200"] < 60 + 20 * 5
    assert statuses["429"] > 0
    assert httpx.get(f"{guarded.url}/healthz").status_code == 200


def test_requests_with_a_key_are_not_limited(guarded: App):
    headers = {"x-api-key": KEY}
    with httpx.Client(base_url=guarded.url, headers=headers, timeout=30) as client:
        statuses = {client.get("/v1/models").status_code for _ in range(int(BURST) + 200)}
    assert statuses == {200}


def test_the_rate_holds_for_an_address_and_for_a_network_of_ipv6():
    rate = RequestRate(10, 5)
    assert [rate.admits("2001:db8::1") for _ in range(6)] == [True] * 5 + [False]
    assert not rate.admits("2001:db8::2")
    assert rate.admits("2001:db8:0:1::1")
    time.sleep(0.25)
    assert rate.admits("2001:db8::3")


@pytest.mark.slow
@pytest.mark.load
@pytest.mark.alone
@pytest.mark.parametrize("path", ["/v1/models", "/healthz"])
def test_a_flood_leaves_the_detector_most_of_its_rate(guarded: App, path: str):
    guarded.wait_until_ready()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "image/jpeg"}

    def pictures_per_second(seconds: float) -> float:
        began, count = time.monotonic(), 0
        with httpx.Client(headers=headers, timeout=60) as client:
            while time.monotonic() - began < seconds:
                answer = client.post(f"{guarded.url}/v1/detect", content=PHOTO)
                assert answer.status_code == 200
                count += 1
        return count / (time.monotonic() - began)

    pictures_per_second(2)
    alone = pictures_per_second(10)
    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, guarded, path, 64, 12)
        time.sleep(1)
        beside = pictures_per_second(10)
        print(f"{path}: {beside:.1f} a second beside {flooding.result()}, {alone:.1f} alone")
    assert beside > 0.7 * alone


# --- Response headers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}), ("GET", "/config", {}), ("GET", "/docs", {}), ("GET", "/healthz", {}),
        ("GET", "/theme.css", {}), ("GET", "/v1/models", {}), ("GET", "/nothing", {}),
        ("GET", "/", {"host": "evil.test"}), ("POST", "/v1/detect", {"origin": EVIL}),
        ("GET", "/page/none/x.js", {}), ("POST", "/gradio_api/component_server", {}),
    ],
)  # fmt: skip
def test_every_response_has_security_headers(
    app: App, method: str, path: str, headers: dict[str, str]
):
    answer = httpx.request(method, app.url + path, headers=headers, timeout=30)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"frame-ancestors 'self'", "object-src 'none'", "base-uri 'self'"} <= set(policy)


def test_a_policy_is_merged_and_the_hub_may_show_a_space(monkeypatch: pytest.MonkeyPatch):
    async def sandboxed(scope: Scope, receive: Receive, send: Send) -> None:
        policy = {"content-security-policy": "sandbox; base-uri 'none'"}
        await JSONResponse({}, headers=policy)(scope, receive, send)

    monkeypatch.setenv("SPACE_ID", "owner/demo")
    client = TestClient(outermost(sandboxed, Settings(host="0.0.0.0")), "http://a.hf.space")
    assert client.get("/").headers["content-security-policy"] == (
        "sandbox; base-uri 'none'; frame-ancestors 'self' https://huggingface.co "
        "https://*.hf.space; object-src 'none'"
    )
