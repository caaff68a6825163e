"""What one visitor can do to the others, and what is whose."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from websockets.sync.client import ClientConnection, connect

from rtdetr_demo.api.sessions import MAX_NAME, OWN_SESSIONS
from rtdetr_demo.api.visitors import VisitorMiddleware
from tests.support.app import App
from tests.support.caller import Caller
from tests.support.paths import EXAMPLES

API = "/gradio_api"
STRANGER, NEIGHBOUR = "127.0.0.8", "127.0.0.9"


def line_of(app: App, address: str) -> httpx.Client:
    """A client at one of this machine's own addresses."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=app.url, transport=transport, timeout=60)


# --- Sessions -------------------------------------------------------------------------------------


def test_long_session_names_are_refused_by_every_route(app: App):
    caller = Caller(app.url)
    name = "a" * (MAX_NAME + 1)
    function = {"component_id": caller.component, "fn_name": "status", "data": {}}
    call = {"data": [None, None, None, 0.5]}
    bodies = {
        "component_server": function, "component_server/": function,
        "queue/join": call | {"fn_index": 0}, "cancel": {"fn_index": 0, "event_id": "a"},
        "reset": {"event_id": name}, "call/detect": call, "call/v2/detect": {"image": None},
        "run/detect_objects": call,
    }  # fmt: skip
    for route, body in bodies.items():
        answer = caller.client.post(f"{API}/{route}", json={"session_hash": name, **body})
        assert answer.status_code == 400, (route, answer.text)
        assert "at most 64 characters." in answer.json()["detail"], route
    for route in (f"queue/data?session_hash={name}", f"heartbeat/{name}", f"call/detect/{name}"):
        assert caller.client.get(f"{API}/{route}").status_code == 400, route
    short = caller.client.post(
        f"{API}/component_server", json={**function, "session_hash": "a" * MAX_NAME}
    )
    assert short.status_code == 200


def test_large_session_names_take_no_memory(app: App):
    app.wait_until_ready()
    caller = Caller(app.url)
    before = app.memory_mb
    for number in range(40):
        caller.client.post(
            f"{API}/component_server",
            json={
                "session_hash": f"{number:03}" + "a" * 3_900_000,
                "component_id": caller.component,
                "fn_name": "status",
                "data": {},
            },
        )
    assert app.memory_mb - before < 80


def test_one_address_has_its_share_of_the_sessions(app: App):
    config = httpx.get(f"{app.url}/config").json()["components"]
    component = next(part["id"] for part in config if part["props"].get("elem_id") == "page")

    def status(client: httpx.Client, session: str) -> int:
        body = {"component_id": component, "fn_name": "status", "data": {}, "session_hash": session}
        return client.post(f"{API}/component_server", json=body).status_code

    with line_of(app, "127.0.0.31") as stranger, line_of(app, NEIGHBOUR) as neighbour:
        statuses = [status(stranger, f"many {number}") for number in range(OWN_SESSIONS + 5)]
        assert statuses == [200] * OWN_SESSIONS + [429] * 5
        assert status(stranger, "many 0") == 200
        assert status(neighbour, "first") == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"component_id": 99_999}, {"component_id": -1}, {"component_id": "a"},
        {"component_id": None}, {"fn_name": "nothing"}, {"fn_name": "\ud800"}, {"fn_name": None},
        {"fn_name": "get_config"}, {"session_hash": 5},
    ],
    ids=str,
)  # fmt: skip
def test_an_unknown_function_of_the_page_is_not_an_error_of_the_server(app: App, changes: dict):
    caller = Caller(app.url)
    body = {"component_id": caller.component, "fn_name": "status", "data": {}, "session_hash": "a"}
    answer = caller.client.post(
        f"{API}/component_server",
        content=json.dumps(body | changes),
        headers={"content-type": "application/json"},
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert "Traceback" not in app.printed


# --- The camera -----------------------------------------------------------------------------------


def first_message(socket: ClientConnection) -> dict:
    return json.loads(socket.recv(timeout=30))


def test_idle_sockets_of_one_address_leave_the_camera_to_others(app: App):
    address = app.url.replace("http", "ws") + "/frames"
    with ExitStack() as crowd:
        told = [
            first_message(crowd.enter_context(connect(address, source_address=(STRANGER, 0))))
            for _ in range(65)
        ]
        assert sum("viewer" in message for message in told) == 16
        assert all("from your address" in message["error"] for message in told[16:])
        with connect(address, source_address=(NEIGHBOUR, 0)) as socket:
            assert "viewer" in first_message(socket)


# --- Logging in -----------------------------------------------------------------------------------

ADA = {"username": "ada", "password": "lovelace"}
WRONG = {"username": "ada", "password": "byron-the-poet"}
OPEN_PATHS = ["/", "/theme.css", "/favicon.ico", "/healthz", "/manifest.json"]
CLOSED_PATHS = [
    "/metrics", "/docs", "/docs-static/swagger-ui.css", "/openapi.json", "/config", "/models",
    "/page/vendor/nothing.js", f"{API}/heartbeat/abc", f"{API}/info", f"{API}/app_id",
    f"{API}/queue/data?session_hash=abc", f"{API}/user",
    f"{API}/file=/etc/passwd",
]  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tiny: Path) -> Iterator[App]:
    running = App(
        "--checkpoint", str(tiny), HF_HUB_OFFLINE="1",
        RTDETR_AUTH="ada:lovelace,bob:ross", RTDETR_API_KEYS="k",
    )  # fmt: skip
    yield running
    running.stop()


def test_with_a_login_only_the_login_page_is_open(guarded: App):
    with line_of(guarded, STRANGER) as stranger:
        for path in OPEN_PATHS:
            assert stranger.get(path).status_code == 200, path
        for path in CLOSED_PATHS:
            assert stranger.get(path).status_code == 401, path
        for route in ("reset", "cancel", "queue/join", "component_server", "upload"):
            assert stranger.post(f"{API}/{route}", json={"event_id": "a"}).status_code == 401, route
        assert stranger.post("/v1/detect").status_code == 401
        key = {"authorization": "Bearer k"}
        for path in ("/metrics", "/docs", "/openapi.json", f"{API}/user"):
            assert stranger.get(path, headers=key).status_code == 200, path
        assert stranger.post("/login", data=ADA).status_code == 200
        for path in ("/metrics", "/docs", "/config"):
            assert stranger.get(path).status_code == 200, path


def test_failed_logins_are_delayed_and_limited(guarded: App):
    with line_of(guarded, "127.0.0.21") as guesser:
        answers = [guesser.post("/login", data=WRONG) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [400] * 5 + [429] * 3
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 30
        assert all(answer.elapsed.total_seconds() >= 0.4 for answer in answers[:5])
        basic = guesser.get("/metrics", auth=("bob", "wrong"))
        assert basic.status_code == 429
    with line_of(guarded, "127.0.0.22") as other:  # the same name from another address
        assert other.post("/login", data=WRONG).status_code == 429
        assert other.post("/login", data={**ADA, "username": "bob"}).status_code == 400
        assert other.post("/login", data={"username": "bob", "password": "ross"}).status_code == 200
    with line_of(guarded, "127.0.0.23") as basic_guesser:
        statuses = [basic_guesser.get("/metrics", auth=("eve", "x")).status_code for _ in range(6)]
        assert statuses == [401] * 5 + [429]
    lines = [line for line in guarded.printed.splitlines() if "failed login" in line]
    assert 1 <= len(lines) <= 12
    assert "byron" not in guarded.printed


def test_other_sites_log_nobody_in_or_out(guarded: App):
    with line_of(guarded, "127.0.0.24") as person:
        user = {"username": "bob", "password": "ross"}
        foreign = [
            {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"},
            {"referer": "https://evil.example/page"}, {"sec-fetch-site": "same-site"},
        ]  # fmt: skip
        for headers in foreign:
            assert person.post("/login", data=user, headers=headers).status_code == 403, headers
        here = {"sec-fetch-site": "same-origin", "origin": guarded.url}
        assert person.post("/login", data=user, headers=here).status_code == 200
        for headers in foreign:
            assert person.get("/logout", headers=headers).status_code == 403, headers
        assert person.get("/config").status_code == 200
        assert person.get("/logout", headers={"referer": f"{guarded.url}/"}).status_code == 302
        assert person.get("/config").status_code == 401


def test_a_person_logs_in_on_the_page(guarded: App, browser: Browser):
    page = browser.new_page()
    page.goto(guarded.url)
    page.get_by_label("username").fill("bob")
    page.get_by_label("password").fill("ross")
    page.get_by_role("button", name="Login").click()
    page.wait_for_selector("rt-stage")
    page.close()


# --- Results and jobs -----------------------------------------------------------------------------


def visitor_at(app: App) -> Caller:
    """A browser that has opened the page, and holds its cookie."""
    caller = Caller(app.url)
    [cookie] = caller.client.get("/").headers.get_list("set-cookie")
    assert cookie.startswith("rtdetr-visitor-")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    return caller


@pytest.fixture
def pair(app: App) -> tuple[Caller, Caller]:
    """Two visitors with the same address."""
    app.wait_until_ready()
    return visitor_at(app), visitor_at(app)


def same_refusal(caller: Caller, function: str, field: str, name: str, **more: object) -> None:
    """Whether a name is answered as one that does not exist is."""
    unknown = caller(function, {field: "no such name", **more})
    assert "error" in unknown
    assert caller(function, {field: name, **more}) == unknown


def test_a_result_is_its_visitors_alone(app: App, pair: tuple[Caller, Caller]):
    owner, other = pair
    path = owner.upload((EXAMPLES / "dogs.jpg").read_bytes())
    seen = owner("detect", {"path": path})
    address = owner("original", {"result": seen["id"]})["url"]
    assert owner.client.get(address).status_code == 200
    best = seen["layers"][-1]
    detection = {
        "label": seen["classes"][best["labels"][0]],
        "box": best["boxes"][:4],
        "score": best["scores"][0],
        "layer": 6,
    }
    assert "queries" in owner("inspect", {"result": seen["id"], **detection})
    without_cookie, forged = Caller(app.url), Caller(app.url)
    [(cookie, value)] = owner.client.cookies.items()
    forged.client.cookies.set(cookie, value[:-1] + ("0" if value[-1] != "0" else "1"))
    for stranger in (other, without_cookie, forged):
        same_refusal(stranger, "detect", "result", seen["id"])
        same_refusal(stranger, "original", "result", seen["id"])
        same_refusal(stranger, "inspect", "result", seen["id"], **detection)
        same_refusal(stranger, "measure", "result", seen["id"])
        assert stranger.client.get(address).status_code == 404
    assert owner("detect", {"result": seen["id"]})["id"] == seen["id"]


def test_a_job_is_its_visitors_alone(pair: tuple[Caller, Caller]):
    owner, other = pair
    for start, state, cancel, request in (
        ("video", "video_state", "cancel_video", {"decoder_layers": 1, "threshold": 0.5}),
        ("measure", "measured", "cancel_measure", {"example": "dogs.jpg", "rounds": 3}),
    ):
        job = owner(start, request)["id"]
        same_refusal(other, state, "id", job)
        same_refusal(other, cancel, "id", job)
        assert "running" in owner(state, {"id": job})
        if start == "measure":
            assert owner(cancel, {"id": job}) == {}
            continue
        while (answer := owner(state, {"id": job}))["running"]:
            time.sleep(0.2)
        for address in answer["files"].values():
            assert owner.client.head(address).status_code == 200
            assert other.client.head(address).status_code == 404


def test_programs_without_cookies_keep_their_own_results(app: App):
    app.wait_until_ready()
    program, elsewhere = Caller(app.url), Caller(app.url, address=STRANGER)
    path = program.upload((EXAMPLES / "dogs.jpg").read_bytes())
    name = program("detect", {"path": path})["id"]
    assert program("detect", {"result": name})["id"] == name
    address = program("original", {"result": name})["url"]
    assert program.client.get(address).status_code == 200
    same_refusal(elsewhere, "detect", "result", name)
    assert elsewhere.client.get(address).status_code == 404


def test_the_cookie_works_in_the_frame_of_a_space(monkeypatch: pytest.MonkeyPatch):
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("page")(scope, receive, send)

    monkeypatch.setenv("SPACE_ID", "owner/space")
    answer = TestClient(VisitorMiddleware(page)).get("/")
    for attribute in ("HttpOnly", "SameSite=None", "Secure", "Partitioned"):
        assert attribute in answer.headers["set-cookie"].split("; ")
