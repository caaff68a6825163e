"""The API's parts by themselves: the queue, shared passes, limits, and settings read from text."""

import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from rtdetr_demo.api.auth import Client, Keys, Rate
from rtdetr_demo.api.detect import _wanted
from rtdetr_demo.api.errors import Refusal
from rtdetr_demo.api.prompt import read_settings
from rtdetr_demo.errors import BadInput, Busy, Overloaded, TooLarge
from rtdetr_demo.serving.scheduler import MicroBatcher, Queue
from rtdetr_demo.settings import Settings

CLASSES = ("person", "car", "bus", "dog", "cat", "knife", "sheep", "traffic light", "wine glass")


# --- The queue ------------------------------------------------------------------------------------


def one_worker(capacity: int, share: int) -> Queue:
    queue = Queue(capacity, share)
    queue.start_workers(1)
    return queue


def test_clients_take_turns_however_much_one_sends():
    queue, order = one_worker(100, 100), []
    gate = threading.Event()
    queue.submit("first", gate.wait)
    waiting = [queue.submit("greedy", lambda n=n: order.append(f"greedy {n}")) for n in range(5)]
    waiting += [queue.submit("modest", lambda: order.append("modest"))]
    waiting += [queue.submit("another", lambda: order.append("another"))]
    gate.set()
    for one in waiting:
        one.result(5)
    assert order[:3] == ["greedy 0", "modest", "another"]
    queue.close()


def test_places_are_bounded_in_all_and_for_each_account():
    queue = one_worker(capacity=6, share=4)
    with queue.places(["a", "address"], 3):
        with pytest.raises(Overloaded), queue.places(["a", "elsewhere"], 2):
            pass
        with pytest.raises(Overloaded), queue.places(["b", "address"], 2):
            pass
        with queue.places(["b"], 3), pytest.raises(Overloaded) as refusal, queue.places(["c"], 1):
            pass
        assert refusal.value.retry_after >= 1
        with queue.places(["b"], 3):
            pass
    with queue.places(["a", "address"], 4):
        pass
    with pytest.raises(TooLarge), queue.places(["a"], 5):
        pass
    queue.close()


def test_what_is_cancelled_before_its_turn_never_runs():
    queue, gate, ran = one_worker(10, 10), threading.Event(), []
    queue.submit("a", gate.wait)
    gone = queue.submit("a", lambda: ran.append(1))
    assert gone.cancel()
    gate.set()
    queue.submit("a", lambda: None).result(5)
    assert ran == []
    with pytest.raises(CancelledError):
        gone.result()
    queue.close()


def test_what_is_cancelled_or_done_is_let_go_at_once():
    queue, gate = one_worker(10, 10), threading.Event()
    queue.submit("a", gate.wait)
    waiting, done = Image.new("RGB", (1, 1)), Image.new("RGB", (1, 1))
    gone = queue.submit("a", lambda image=waiting: image.size)
    known = [weakref.ref(waiting), weakref.ref(done)]
    gone.cancel()
    del waiting, gone
    assert known[0]() is None
    gate.set()
    assert queue.submit("a", lambda image=done: image.size).result(5) == (1, 1)
    del done
    for _ in range(100):
        if known[1]() is None:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("an idle worker holds the last picture")
    queue.close()


def test_closing_refuses_what_waits_and_what_comes():
    queue, gate, began = one_worker(10, 10), threading.Event(), threading.Event()

    def work() -> bool:
        began.set()
        return gate.wait()

    running = queue.submit("a", work)
    assert began.wait(5)
    waiting = queue.submit("a", lambda: None)
    closing = threading.Thread(target=queue.close)
    closing.start()
    with pytest.raises(Busy):
        waiting.result(5)
    with pytest.raises(Busy):
        queue.submit("a", lambda: None)
    gate.set()
    closing.join()
    assert running.result(0) is True


def test_work_that_fails_fails_alone():
    queue = one_worker(10, 10)

    def fail() -> None:
        raise BadInput("No.")

    with pytest.raises(BadInput):
        queue.submit("a", fail).result(5)
    assert queue.submit("a", lambda: 7).result(5) == 7
    queue.close()


# --- Shared passes --------------------------------------------------------------------------------


class Model:
    """Stands in for a detector: answers with the widths of the pictures, when it is let."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.batches: list[tuple[int, Any]] = []
        self.gate = threading.Event()
        self.running = 0

    def detect(self, images: list[Image.Image], *key: object) -> Any:
        self.running += 1
        assert self.running == 1, "two passes at once"
        self.batches.append((len(images), key))
        assert self.gate.wait(5)
        time.sleep(self.seconds)
        self.running -= 1
        if key == ("broken",):
            raise BadInput("Broken.")
        return [image.width for image in images]


def ask_at_once(passes: MicroBatcher, model: Model, most: int, keys: list[str]) -> list:
    """One request holds the model; the others wait for it together."""
    with ThreadPoolExecutor(len(keys)) as pool:
        asked = []
        for number, key in enumerate(keys):
            image = Image.new("RGB", (number + 1, 1))
            asked.append(pool.submit(passes.detect, image, most, key))
            while number == 0 and not model.batches:
                time.sleep(0.001)
        while len(passes._waiting) < len(keys) - 1:
            time.sleep(0.001)
        model.gate.set()
        return [one.exception() or one.result() for one in asked]


def test_on_a_card_pictures_share_a_pass_in_powers_of_two():
    model = Model()
    answers = ask_at_once(MicroBatcher(model.detect), model, 8, ["x"] * 14)
    assert answers == list(range(1, 15))
    assert [size for size, _ in model.batches] == [1, 8, 4, 1]


def test_only_what_asks_for_the_same_shares_a_pass():
    model = Model()
    answers = ask_at_once(MicroBatcher(model.detect), model, 8, ["x", "y", "z", "y", "broken", "z"])
    assert answers[:4] == [1, 2, 3, 4]
    assert isinstance(answers[4], BadInput)
    assert answers[5] == 6
    assert sorted(model.batches) == [
        (1, ("broken",)), (1, ("x",)), (2, ("y",)), (2, ("z",)),
    ]  # fmt: skip


def test_a_full_queue_fills_the_passes_of_a_card():
    model, queue = Model(seconds=0.02), Queue(100, 100)
    passes = MicroBatcher(model.detect)
    queue.start_workers(16)
    image = Image.new("RGB", (1, 1))
    asked = [queue.submit(f"{n % 5}", lambda: passes.detect(image, 8, "x")) for n in range(100)]
    model.gate.set()
    for one in asked:
        one.result(5)
    sizes = [size for size, _ in model.batches]
    assert sum(sizes) == 100
    assert sizes.count(8) >= 5
    queue.close()


def test_on_a_cpu_each_picture_has_its_pass():
    model = Model()
    assert ask_at_once(MicroBatcher(model.detect), model, 1, ["x"] * 6) == [1, 2, 3, 4, 5, 6]
    assert [size for size, _ in model.batches] == [1] * 6


# --- Who may, and how much ------------------------------------------------------------------------


def test_without_keys_only_this_machine_may_ask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    for host, access in [
        (None, "open"), ("127.0.0.1", "open"), ("localhost", "open"), ("::1", "open"),
        ("[::1]", "open"), ("0.0.0.0", "closed"), ("::", "closed"), ("192.168.1.5", "closed"),
        ("example.org", "closed"),
    ]:  # fmt: skip
        settings = Settings(host=host)
        assert settings.api_access == access, host
        keys = Keys(settings)
        if access == "open":
            assert keys.client("", "127.0.0.1").name == "127.0.0.1"
            assert "open to this machine" in keys.describe()
        else:
            assert "RTDETR_API_KEYS" in keys.describe()
            with pytest.raises(Refusal, match="closed") as refusal:
                keys.client("Bearer x", "127.0.0.1")
            assert refusal.value.status == 401
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")  # as a Space has it
    assert Settings().api_access == "closed"
    monkeypatch.delenv("GRADIO_SERVER_NAME")
    monkeypatch.setenv("GRADIO_SHARE", "True")
    assert Settings().api_access == "closed"


def test_keys_come_from_the_environment_and_are_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RTDETR_API_KEYS", " one-key ,, another ")
    settings = Settings.from_command_line([])
    assert settings.api_keys == ("one-key", "another")
    assert settings.api_access == "keys"
    assert "one-key" not in repr(settings)
    keys = Keys(settings)
    assert "one-key" not in keys.describe()
    twice = Keys(Settings(api_keys=("a", "a", "b")))
    assert {twice.client(f"Bearer {key}", "x").name for key in "ab"} == {"key 1", "key 2"}
    client = keys.client("bearer  another ", "10.0.0.9")
    assert client == Client("key 2", ("key 2", "address 10.0.0.9"))


def test_the_rate_holds_for_keys_and_for_addresses():
    rate = Rate(5)
    rate.count(Client("key 1", ("key 1", "address a")), 3)
    with pytest.raises(Overloaded) as refusal:
        rate.count(Client("key 1", ("key 1", "address b")), 3)
    assert 1 <= refusal.value.retry_after <= 61
    with pytest.raises(Overloaded):
        rate.count(Client("key 2", ("key 2", "address a")), 3)
    rate.count(Client("key 2", ("key 2", "address b")), 5)  # the refusals counted for nothing
    with pytest.raises(TooLarge):
        rate.count(Client("key 5", ("key 5",)), 6)
    for _ in range(100):
        Rate(0).count(Client("x", ("x",)), 16)


# --- What is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("threshold 0.6, only dogs", {"threshold": 0.6, "classes": ["dog"]}),
        ("only dogs, threshold 0.6", {"threshold": 0.6, "classes": ["dog"]}),
        ("Only the people, buses and traffic lights please.",
         {"classes": ["person", "bus", "traffic light"]}),
        ("just wine glasses & knives in this picture", {"classes": ["wine glass", "knife"]}),
        ("confidence above 40 %", {"threshold": 0.4}),
        ("threshold 1", {"threshold": 1.0}),
        ("scores over .25; 3 decoder layers", {"threshold": 0.25, "decoder_layers": 3}),
        ("stop after layer 2, no more than 5 boxes", {"decoder_layers": 2, "max_detections": 5}),
        ("decoder_layers=4 max_detections=7", {"decoder_layers": 4, "max_detections": 7}),
        ("only dogs, after layer 3", {"classes": ["dog"], "decoder_layers": 3}),
        ("threshold 0.5, yes, threshold 0.5", {"threshold": 0.5}),
        # Ambiguous, or no setting at all.
        ("threshold 0.5 or threshold 0.6", {}),
        ("threshold between 0.5 and 0.6", {}),
        ("threshold 0.5 to 0.6", {}),
        ("threshold 1.5", {}),
        ("threshold 0.5abc", {}),
        ("decoder layers 3 to 5", {}),
        ("3 or 4 decoder layers", {}),
        ("9 decoder layers", {}),
        ("What is on this cake with 2 layers?", {}),
        ("What does layer 12 of the cake hold?", {}),
        ("The score is 1.", {}),
        ("books on the top 3 shelves", {}),
        ("don't just show dogs", {}),
        ("I do not want only dogs", {}),
        ("do not use threshold 0.9", {}),
        ("everything except cars; threshold 0.3", {"threshold": 0.3}),
        ("only dragons", {}),
        ("only dogs and dragons", {}),
        ("not only dogs", {}),
        ("only dogs. Well, only cats.", {}),
        ("the only person here", {}),
        ("What is in the picture? 0.7", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_settings_in_text(text: str, settings: dict):
    assert read_settings(text, CLASSES, 6) == settings


@pytest.mark.parametrize("text", ["only " * 20_000, "a, " * 20_000, "only " + " " * 99_999 + "in"])
def test_long_texts_cost_no_time(text: str):
    began = time.perf_counter()
    read_settings(text, CLASSES, 6)
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/webp, image/png;q=0.5", "image/webp"),
        ("text/html, image/webp;q=0.8, */*;q=0.1", "image/webp"),
        ("application/json;q=0, */*", "image/png"),
    ],
)
def test_what_is_accepted_is_sent(accept: str, kind: str):
    assert _wanted(accept) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "image/png;q=0", "image/png;q=x"])
def test_what_nobody_has_is_refused(accept: str):
    with pytest.raises(Refusal) as refusal:
        _wanted(accept)
    assert refusal.value.status == 406
