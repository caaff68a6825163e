"""What one visitor can do to the others, and what is whose."""

import json
from contextlib import ExitStack

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from rtdetr_demo.api.sessions import MAX_NAME, OWN_SESSIONS
from tests.support.app import App
from tests.support.caller import Caller

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

    with line_of(app, STRANGER) as stranger, line_of(app, NEIGHBOUR) as neighbour:
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
