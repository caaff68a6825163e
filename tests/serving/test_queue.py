"""One queue before the device, passes that requests share, and viewers within a limit."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from rtdetr_demo.errors import BadInput, Busy, TooLarge, TooManyRequests
from rtdetr_demo.serving.scheduler import MAX_WAITING_OUTSIDE, MicroBatcher, Queue, ViewerLimiter
from tests.support.app import run_async


@pytest.fixture
def queue() -> Iterator[Queue]:
    queue = Queue(100, 100)
    queue.start_workers(1)
    yield queue
    queue.close()


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError


def test_who_waits_knows_their_place_in_line(queue: Queue):
    gate = threading.Event()
    queue.submit("first", gate.wait)
    eventually(lambda: queue.ahead("first", "") is None)
    for number in range(5):
        queue.submit("greedy", lambda: None, f"greedy {number}")
    queue.submit("modest", lambda: None, "modest")
    assert [queue.ahead("greedy", f"greedy {number}") for number in range(3)] == [0, 2, 3]
    assert queue.ahead("modest", "modest") == 1
    assert queue.ahead("modest", "greedy 3") is None  # another's
    gate.set()
    eventually(lambda: queue.ahead("greedy", "greedy 4") is None)


def test_what_waits_for_another_server_lets_others_run(queue: Queue):
    gate = threading.Event()

    def fetch() -> str:
        with queue.slot_released(limit=2):
            gate.wait(10)
        return "fetched"

    slow = [queue.submit("slow", fetch) for _ in range(2)]
    for _ in range(20):
        assert queue.submit("quick", lambda: 1).result(5) == 1
    with pytest.raises(TooManyRequests):  # of one client's own
        queue.submit("slow", fetch).result(5)
    others = [queue.submit(f"other {number}", fetch) for number in range(MAX_WAITING_OUTSIDE - 2)]
    with pytest.raises(TooManyRequests):  # of all together
        queue.submit("one more", fetch).result(5)
    gate.set()
    assert {one.result(5) for one in slow + others} == {"fetched"}


def test_no_more_runs_at_once_for_slots_that_were_released(queue: Queue):
    running, most, gate = 0, 0, threading.Event()
    guard = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with queue.slot_released(limit=100):
            gate.wait(10)
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with guard:
            running -= 1

    several = [queue.submit(f"{number}", work) for number in range(20)]
    eventually(lambda: queue.submit("last", lambda: True).result(5))
    gate.set()
    for one in several:
        one.result(5)
    assert most == 1


def test_asking_reserves_room_until_it_is_answered():
    queue = Queue(2, 2)
    queue.start_workers(1)
    gate = threading.Event()

    async def ask() -> list:
        tasks = [asyncio.create_task(queue.ask("a", gate.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(TooManyRequests):
            await queue.ask("b", lambda: None)
        gate.set()
        return [*await asyncio.gather(*tasks), await queue.ask("b", lambda: 3)]

    assert run_async(ask()) == [True, True, 3]
    queue.close()


def test_one_address_has_a_quarter_of_the_viewers():
    viewers = ViewerLimiter(16)
    for number in range(4):
        viewers.begin_frame(f"invented {number}", "203.0.113.5")
    with pytest.raises(Busy):
        viewers.begin_frame("invented 4", "203.0.113.5")
    viewers.begin_frame("someone", "203.0.113.6")
    viewers.end_frame("invented 0")
    viewers.begin_frame("invented 0", "203.0.113.5")  # who has a place keeps it


def test_past_the_limit_a_viewer_is_told_to_wait_until_another_leaves():
    viewers = ViewerLimiter(2, idle_seconds=0.2)
    for name in ("a", "b"):
        viewers.begin_frame(name)
        viewers.end_frame(name)
    with pytest.raises(Busy, match="2 people are watching"):
        viewers.begin_frame("c")
    viewers.begin_frame("a")  # who is in stays in
    viewers.end_frame("a")
    time.sleep(0.25)
    viewers.begin_frame("c")


def test_a_viewer_has_one_frame_under_way():
    viewers = ViewerLimiter(2)
    viewers.begin_frame("a")
    with pytest.raises(Busy, match="one at a time"):
        viewers.begin_frame("a")
    viewers.end_frame("a")
    viewers.begin_frame("a")


# --- The queue by itself -------------------------------------------------------------------------


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


def test_pictures_are_bounded_in_all_and_for_each_account():
    queue = one_worker(capacity=6, share=4)
    with queue.reserve(["a", "address"], 3):
        with pytest.raises(TooManyRequests), queue.reserve(["a", "elsewhere"], 2):
            pass
        with pytest.raises(TooManyRequests), queue.reserve(["b", "address"], 2):
            pass
        with (
            queue.reserve(["b"], 3),
            pytest.raises(TooManyRequests) as refusal,
            queue.reserve(["c"], 1),
        ):
            pass
        assert refusal.value.retry_after >= 1
        with queue.reserve(["b"], 3):
            pass
    with queue.reserve(["a", "address"], 4):
        pass
    with pytest.raises(TooLarge), queue.reserve(["a"], 5):
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
