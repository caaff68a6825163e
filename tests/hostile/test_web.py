"""What a page of another site, or a flood of requests, can do to the demo."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from rtdetr_demo.api.auth import Keys
from rtdetr_demo.api.outermost import outermost
from rtdetr_demo.settings import Settings
from tests.support.app import App
from tests.support.paths import EXAMPLES

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
