"""The camera's WebSocket, asked by a client of its own."""

import json
import struct
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.app import App
from tests.support.frames import message, opened, watching


def test_a_frame_is_answered_with_one_layer_and_where_the_time_went(app: App):
    with watching(app) as ask:
        answer = ask(message(frame=7, decoder_layers=3))
    assert (answer["frame"], answer["decoder_layers"], answer["depth"]) == (7, 3, 6)
    assert len(answer["layers"]) == 1
    assert all(score >= 0.05 for score in answer["layers"][0]["scores"])
    assert (answer["width"], answer["height"]) == (640, 480)
    spent = answer["timing_ms"]
    assert spent["server"] >= spent["wait"] + spent["total"] - 1


def test_names_and_colours_of_the_classes_come_once(app: App):
    with watching(app) as ask:
        first, second = ask(message()), ask(message())
        assert len(first["classes"]) == len(first["colors"]) == 5
        assert "classes" not in second
        assert "colors" not in second
        other = ask(message(checkpoint="bundled"))
        assert len(other["classes"]) == 20


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"\xff\xff{}", struct.pack(">H", 2) + b"{}", message(b""),
        message(b"no picture"), message(frame=-1), message(frame="1"), message(decoder_layers=0),
        message(decoder_layers="6"), message(decoder_layers=None), message(more=1),
        message(checkpoint="owner/unlisted"), message(queries=5), message(size=100),
        message(b"\xff\xd8" + bytes(2 * 2**20)),
    ],
)  # fmt: skip
def test_every_hostile_frame_is_a_sentence_and_the_next_one_is_served(app: App, content: bytes):
    with watching(app) as ask:
        error = ask(content)["error"]
        assert error.endswith(".")
        assert "Traceback" not in error
        assert "layers" in ask(message())


def test_text_in_place_of_a_frame_is_a_sentence(app: App):
    with opened(app) as socket:
        socket.send("hello")
        assert "unexpected" in json.loads(socket.recv(timeout=30))["error"]


def test_of_the_frames_that_come_meanwhile_the_newest_wins(app: App):
    with opened(app) as socket:
        for number in range(30):
            socket.send(message(frame=number))
        answered = []
        while not answered or answered[-1] < 29:
            answered.append(json.loads(socket.recv(timeout=30))["frame"])
    assert answered == sorted(answered)
    assert len(answered) < 30


def test_a_page_of_another_site_is_refused(app: App):
    with pytest.raises(InvalidStatus) as refused, opened(app, origin="https://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403
    with watching(app, origin=app.url) as ask:
        assert "layers" in ask(message())


def test_whoever_leaves_in_the_middle_frees_the_place(app: App):
    for _ in range(20):  # more than may watch at once
        with opened(app) as socket:
            socket.send(message())
    with watching(app) as ask:
        answer = ask(message())
        for _ in range(50):
            if "layers" in answer:
                return
            time.sleep(0.1)
            answer = ask(message())
    raise AssertionError(answer["error"])


def address(number: int) -> tuple[str, int]:
    """One of this machine's own addresses, each a visitor of its own."""
    return f"127.0.0.{2 + number}", 0


@pytest.mark.alone
def test_viewers_share_the_model_fairly(app: App):
    served, refused, end = [0] * 10, [], time.monotonic() + 4

    def watch(number: int) -> None:
        with watching(app, source_address=address(number)) as ask:
            while time.monotonic() < end:
                answer = ask(message())
                served[number] += "layers" in answer
                if "error" in answer:
                    refused.append(answer["error"])

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    assert min(served) >= 0.6 * max(served)


def test_past_the_limit_a_viewer_is_told_to_wait(app: App):
    with ExitStack() as crowd:
        told = refusals(
            crowd.enter_context(opened(app, source_address=address(number))) for number in range(17)
        )
    assert len(told) == 1
    assert "people are watching live" in told[0]


def test_one_address_has_its_share_of_the_places(app: App):
    with ExitStack() as crowd:
        told = refusals(crowd.enter_context(opened(app)) for _ in range(5))
    assert len(told) == 1
    assert "from your address" in told[0]


def refusals(viewers: Iterable[ClientConnection]) -> list[str]:
    """What viewers who all send a frame at once are told in place of detections."""
    sockets = list(viewers)
    for socket in sockets:
        socket.send(message())
    answers = [json.loads(socket.recv(timeout=30)) for socket in sockets]
    return [answer["error"] for answer in answers if "error" in answer]


def test_a_crowd_of_idle_sockets_is_told_to_come_later(app: App):
    sockets, told = [], ""
    try:
        for _ in range(70):
            socket = connect(app.url.replace("http", "ws") + "/frames")
            sockets.append(socket)
            told = json.loads(socket.recv(timeout=30)).get("error", told)
        assert "Too many pages" in told
        with pytest.raises(ConnectionClosed):
            sockets[-1].recv(timeout=10)
    finally:
        for socket in sockets:
            socket.close()
