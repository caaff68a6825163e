"""One visitor who asks for everything at once, and another who only wants an answer."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from rtdetr_demo.ui.gradio_queue import OWN_CALLS
from tests.support.app import App
from tests.support.paths import EXAMPLES

pytestmark = pytest.mark.alone

GREEDY, MODEST = "127.0.0.2", "127.0.0.3"


def visitor(address: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=60)


@pytest.fixture(autouse=True)
def ready(app: App) -> None:
    app.wait_until_ready()


@pytest.fixture
def slow_host() -> Iterator[str]:
    """A server that takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:
        lines: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    lines.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        for line in lines:
            line.close()


def call(client: httpx.Client, app: App, name: str, **request: object) -> dict:
    config = client.get(f"{app.url}/config").json()
    component = next(
        one["id"] for one in config["components"] if name in one["props"].get("server_fns", ())
    )
    body = {
        "data": request, "fn_name": name, "session_hash": "a", "component_id": component,
    }  # fmt: skip
    answer = client.post(f"{app.url}/gradio_api/component_server", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.load
def test_forty_five_fetches_of_a_slow_host_delay_nobody_else(app: App, slow_host: str):
    def fetch(number: int) -> None:
        with suppress(httpx.TimeoutException), visitor(GREEDY) as greedy:
            greedy.timeout = 8
            call(greedy, app, "detect", url=f"{slow_host}?{number}")

    with visitor(MODEST) as modest, ThreadPoolExecutor(45) as pool:
        list(map(pool.submit, [fetch] * 45, range(45)))
        time.sleep(2)
        for _ in range(3):
            began = time.monotonic()
            assert modest.get(f"{app.url}/theme.css").status_code == 200
            assert "layers" in call(modest, app, "detect", example="dogs.jpg")
            assert time.monotonic() - began < 5


def test_calls_past_a_share_are_refused_and_the_queue_lives(app: App):
    with visitor(GREEDY) as greedy, visitor(MODEST) as modest:
        image = {"path": "nowhere.jpg", "meta": {"_type": "gradio.FileData"}}
        statuses = [
            greedy.post(
                f"{app.url}/gradio_api/call/detect", json={"data": [image, None, None, 0.5]}
            ).status_code
            for _ in range(OWN_CALLS + 60)
        ]
        assert statuses[:OWN_CALLS] == [200] * OWN_CALLS
        assert 429 in statuses[OWN_CALLS:]
        files = {"files": ("a.jpg", (EXAMPLES / "dogs.jpg").read_bytes())}
        path = modest.post(f"{app.url}/gradio_api/upload", files=files).json()[0]
        began = time.monotonic()
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, None, None, 0.5]
        event = modest.post(f"{app.url}/gradio_api/call/detect", json={"data": data}).json()
        answer = modest.get(f"{app.url}/gradio_api/call/detect/{event['event_id']}").text
        assert "event: complete" in answer, answer
        assert time.monotonic() - began < 5
        assert "detections" in json.loads(answer.partition("data: ")[2])[0]


@pytest.mark.slow
def test_two_thousand_unread_sessions_do_not_end_the_queue(app: App):
    image = {"path": "nowhere.jpg", "meta": {"_type": "gradio.FileData"}}
    statuses = set()
    for number in range(2200):
        address = f"127.0.{1 + number // 200}.{1 + number % 200}"
        with visitor(address) as someone:
            answer = someone.post(
                f"{app.url}/gradio_api/call/detect", json={"data": [image, None, None, 0.5]}
            )
            statuses.add(answer.status_code)
    assert statuses == {200, 503}  # full of answers that nobody reads
    for _ in range(90):
        with visitor(MODEST) as modest:
            answer = modest.post(
                f"{app.url}/gradio_api/call/detect", json={"data": [image, None, None, 0.5]}
            )
            if answer.status_code == 200:
                name = answer.json()["event_id"]
                assert "event: " in modest.get(f"{app.url}/gradio_api/call/detect/{name}").text
                return
        time.sleep(1)
    raise AssertionError("the queue never took a call again")
