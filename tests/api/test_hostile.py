"""The API under clients who are slow, huge, many or gone, and under an operator who stops it."""

import base64
import io
import json
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.support.api import check_error, heavy_picture
from tests.support.app import App
from tests.support.paths import EXAMPLES

KEY = "the-right-key"
HEADERS = {"Authorization": f"Bearer {KEY}"}
PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()
PATIENCE = 4
"""Seconds that a body or an answer may stand still: fewer than by default, as tests wait for it."""


pytestmark = pytest.mark.load


@pytest.fixture(scope="module")
def app(tiny: Path) -> Iterator[App]:
    running = App(
        "--checkpoint", str(tiny), "--patience", str(PATIENCE),
        HF_HUB_OFFLINE="1", RTDETR_API_KEYS=KEY,
    )  # fmt: skip
    running.wait_until_ready()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def heavy() -> bytes:
    return heavy_picture()


@pytest.fixture(autouse=True)
def still_serves(app: App) -> Iterator[None]:
    """After whatever happened, a picture is answered, and soon."""
    yield
    if app.process.poll() is None:
        began = time.monotonic()
        response = ask(app)
        assert response.status_code == 200, response.text
        assert time.monotonic() - began < 5
        assert "Traceback" not in app.printed


def ask(app: App, content: bytes = PHOTO, accept: str = "*/*") -> httpx.Response:
    headers = {**HEADERS, "Content-Type": "image/jpeg", "Accept": accept}
    return httpx.post(f"{app.url}/v1/detect", content=content, headers=headers, timeout=60)


def begin(app: App, body: bytes, length: int | None = None, key: str = KEY) -> socket.socket:
    """A request whose body may be shorter than it says."""
    line = socket.create_connection(("127.0.0.1", app.port), timeout=30)
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {length or len(body)}\r\n\r\n"
    )
    line.sendall(head.encode() + body)
    return line


def measured(app: App, name: str) -> float:
    text = METRICS.get(f"{app.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


METRICS = httpx.Client()
PASSES = 'rtdetr_stage_seconds_count{stage="model"}'


def wait_until_at_work(app: App) -> None:
    for _ in range(1000):
        if measured(app, "rtdetr_queue_pictures") > 0:
            return
        time.sleep(0.005)
    raise AssertionError("no picture waits")


def test_a_client_that_hangs_up_stops_costing(app: App, heavy: bytes):
    before = measured(app, PASSES)
    picture = "data:image/jpeg;base64," + base64.b64encode(heavy).decode()
    body = json.dumps({"image_url": [picture] * 12}).encode()
    line = socket.create_connection(("127.0.0.1", app.port), timeout=30)
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    line.sendall(head.encode() + body)
    wait_until_at_work(app)
    line.close()
    for _ in range(100):
        if measured(app, "rtdetr_queue_pictures") == 0:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("its pictures still wait")
    time.sleep(1)
    assert measured(app, PASSES) - before < 12


def test_half_sent_bodies_do_not_stand_in_anyones_way(app: App):
    lines = [begin(app, PHOTO[:1000], len(PHOTO)) for _ in range(100)]
    for _ in range(3):
        assert ask(app).status_code == 200
    for line in lines:
        line.close()


def test_a_body_that_stands_still_is_given_up(app: App):
    line = begin(app, PHOTO[:1000], len(PHOTO))
    line.settimeout(25)
    answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in answer


def test_clients_that_read_slowly(app: App):
    lines = [begin(app, PHOTO) for _ in range(40)]  # and nobody reads an answer
    for _ in range(3):
        assert ask(app).status_code == 200
    for line in lines:
        line.close()


def test_bodies_of_a_hundred_megabytes(app: App):
    before = app.memory_mb
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(app, bytes(100 * 2**20)), range(4)))
    for answer in answers:
        assert answer.status_code == 413
        check_error(answer)
    # Said in pieces, without a length up front, it is no different.
    chunks = (bytes(2**20) for _ in range(100))
    headers = {**HEADERS, "Content-Type": "image/jpeg"}
    answer = httpx.post(f"{app.url}/v1/detect", content=chunks, headers=headers, timeout=60)
    assert answer.status_code == 413
    assert app.memory_mb - before < 150


def test_a_body_as_large_as_is_taken(app: App):
    answer = ask(app, bytes(60 * 2**20))
    assert answer.status_code == 415
    check_error(answer)


def test_bodies_without_a_key_take_no_room(app: App):
    """Paths that need no key take no body either, so nobody fills the room for bodies there."""
    lines = []
    for _ in range(10):
        line = socket.create_connection(("127.0.0.1", app.port), timeout=30)
        line.sendall(
            b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 67108864\r\n\r\nx"
        )
        lines.append(line)
        lines.append(begin(app, b"x", 60 * 2**20))  # with a key, stated but not sent
    assert ask(app).status_code == 200
    for line in lines:
        line.close()


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}",
        b"{" + b",".join(b'"%d":1' % n for n in range(40_000)) + b"}",
        b'{"messages":[' + b",".join([b"{}"] * 1_000_000) + b"]}",
    ],
    ids=["a million fields", "many fields", "a million messages"],
)
def test_bodies_of_many_values_cost_little(app: App, body: bytes):
    before, began = app.memory_mb, time.monotonic()
    headers = {**HEADERS, "Content-Type": "application/json"}
    for path in ("chat/completions", "responses", "detect"):
        answer = httpx.post(f"{app.url}/v1/{path}", content=body, headers=headers, timeout=60)
        assert answer.status_code in (400, 413)
        check_error(answer)
    assert time.monotonic() - began < 5
    assert app.memory_mb - before < 150


def test_answers_that_nobody_reads_are_not_piled_up(app: App):
    buffer = io.BytesIO()
    Image.effect_noise((4000, 3000), 80).convert("RGB").save(buffer, "JPEG")
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: image/jpeg\r\nAccept: image/png\r\n"
        f"Content-Length: {len(buffer.getvalue())}\r\n\r\n"
    )
    lines = []
    for _ in range(2):
        line = socket.create_connection(("127.0.0.1", app.port), timeout=30)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        line.sendall(head.encode() + buffer.getvalue())
        lines.append(line)
    wait_until_at_work(app)
    while measured(app, "rtdetr_queue_pictures"):
        time.sleep(0.05)
    time.sleep(PATIENCE + 1)
    whole = len(ask(app, buffer.getvalue(), "image/png").content)
    for line in lines:
        received = 0
        while chunk := line.recv(1 << 20):
            received += len(chunk)
        assert 0 < received < whole  # the line was cut
        line.close()


def test_a_thousand_bad_keys_a_second(app: App):
    """Four connections ask as fast as they can while someone with a key goes on working.

    What that one is served is held against the same without the flood, as others may want the
    machine too.
    """
    head = "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer guess-{}\r\n\r\n"
    statuses: Counter[bytes] = Counter()
    pictures = 12

    def seconds_of_work() -> float:
        began = time.monotonic()
        for _ in range(pictures):
            assert ask(app).status_code == 200
        return time.monotonic() - began

    alone = seconds_of_work()
    done = threading.Event()

    def guess(number: int) -> None:
        line = socket.create_connection(("127.0.0.1", app.port), timeout=30)
        reader = line.makefile("rb")
        count = 0
        while not done.is_set():
            ten = "".join(head.format(f"{number}-{count + i}") for i in range(10))
            line.sendall(ten.encode())
            for _ in range(10):
                statuses[reader.readline().split()[1]] += 1
                length = 0
                while (header := reader.readline().strip()) != b"":
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                reader.read(length)
            count += 10
        line.close()

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        beside = seconds_of_work()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    print(
        f"{statuses.total() / beside:.0f} bad keys a second; {pictures} pictures took {beside:.1f} "
        f"s beside them, {alone:.1f} s without"
    )
    assert set(statuses) == {b"401"}
    # Each connection gets two answers a second, as a pause precedes each.
    assert statuses.total() < 4 * (2 * beside + 10)
    assert beside < 2 * alone


def test_nonsense_on_the_line(app: App):
    for nonsense in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/detect\r\n\r\n", b"{}"):
        with socket.create_connection(("127.0.0.1", app.port), timeout=10) as line:
            line.sendall(nonsense)
            line.shutdown(socket.SHUT_WR)
            line.recv(1000)


@pytest.fixture(scope="module")
def killed(app: App, tiny: Path) -> Iterator[tuple[App, Counter[object]]]:
    """The app, killed under load and started again on its port, and what the load met.

    For the last tests here: the app of all the others is gone.
    """
    done, statuses = threading.Event(), Counter[object]()

    def load() -> None:
        while not done.is_set():
            try:
                status: object = ask(app).status_code
            except httpx.HTTPError:
                status = "no answer"
            statuses[status] += 1
            time.sleep(0.5 * (status != 200))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    app.process.kill()
    app.process.wait()
    before = statuses[200]
    again = App("--checkpoint", str(tiny), port=app.port, HF_HUB_OFFLINE="1", RTDETR_API_KEYS=KEY)
    again.wait_until_ready()
    time.sleep(1)
    done.set()
    for thread in threads:
        thread.join()
    statuses["after"] = statuses[200] - before
    yield again, statuses
    again.stop()


def test_killed_and_started_again_under_load(killed: tuple[App, Counter[object]]):
    """SIGKILL leaves nothing behind that a new process on the same port would stumble over."""
    _, statuses = killed
    assert statuses["after"] > 0
    assert set(statuses) <= {200, 503, "no answer", "after"}


def test_sigterm_finishes_what_runs_and_refuses_what_comes(
    killed: tuple[App, Counter[object]], heavy: bytes
):
    ending, _ = killed
    answers: list[httpx.Response] = []
    files = [("file", heavy)] * 8

    def work() -> None:
        answers.append(
            httpx.post(f"{ending.url}/v1/detect", files=files, headers=HEADERS, timeout=60)
        )

    working = threading.Thread(target=work)
    working.start()
    wait_until_at_work(ending)
    half = begin(ending, PHOTO[:5000], len(PHOTO))
    time.sleep(0.2)
    ending.process.send_signal(signal.SIGTERM)
    for _ in range(100):  # until the main thread has heard it
        if httpx.get(f"{ending.url}/readyz").status_code == 503:
            break
        time.sleep(0.02)
    late = ask(ending)
    assert late.status_code == 503
    assert check_error(late)["code"] == "shutting_down"
    assert late.headers["retry-after"]
    assert httpx.get(f"{ending.url}/healthz").status_code == 200
    half.sendall(PHOTO[5000:])  # begun before, whole only now: refused, but answered
    assert half.recv(65536).startswith(b"HTTP/1.1 503")
    working.join()
    assert answers[0].status_code == 200, answers[0].text
    assert len(answers[0].json()["results"]) == 8
    assert ending.process.wait(20) == 0
    assert "Traceback" not in ending.printed, ending.printed[-3000:]
