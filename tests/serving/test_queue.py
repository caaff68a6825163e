"""One queue before the device: turns among visitors, places in line, and slots lent meanwhile."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rtdetr_demo.errors import Busy, Overloaded
from rtdetr_demo.serving.scheduler import MAX_ASIDE, Queue, ViewerLimiter


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
        with queue.aside(own=2):
            gate.wait(10)
        return "fetched"

    slow = [queue.submit("slow", fetch) for _ in range(2)]
    for _ in range(20):
        assert queue.submit("quick", lambda: 1).result(5) == 1
    with pytest.raises(Overloaded):  # of one client's own
        queue.submit("slow", fetch).result(5)
    others = [queue.submit(f"other {number}", fetch) for number in range(MAX_ASIDE - 2)]
    with pytest.raises(Overloaded):  # of all together
        queue.submit("one more", fetch).result(5)
    gate.set()
    assert {one.result(5) for one in slow + others} == {"fetched"}


def test_no_more_runs_at_once_for_having_stood_aside(queue: Queue):
    running, most, gate = 0, 0, threading.Event()
    guard = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with queue.aside(own=100):
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


def test_asking_holds_a_place_until_it_is_answered():
    queue = Queue(2, 2)
    queue.start_workers(1)
    gate = threading.Event()

    async def ask() -> list:
        tasks = [asyncio.create_task(queue.ask("a", gate.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await queue.ask("b", lambda: None)
        gate.set()
        return [*await asyncio.gather(*tasks), await queue.ask("b", lambda: 3)]

    assert asyncio.run(ask()) == [True, True, 3]
    queue.close()


def test_one_address_has_a_quarter_of_the_places_to_watch():
    viewers = ViewerLimiter(16)
    for number in range(4):
        viewers.arrive(f"invented {number}", "203.0.113.5")
    with pytest.raises(Busy):
        viewers.arrive("invented 4", "203.0.113.5")
    viewers.arrive("someone", "203.0.113.6")
    viewers.leave("invented 0")
    viewers.arrive("invented 0", "203.0.113.5")  # who has a place keeps it
