"""Whoever asks first is served first, and the number of live viewers is bounded."""

import threading
import time

import pytest

from rtdetr_demo.errors import Busy
from rtdetr_demo.model.scheduler import FairLock
from rtdetr_demo.serving.scheduler import ViewerLimiter


def test_turns_go_in_the_order_of_asking():
    turns, served = FairLock(), []

    def ask(number: int) -> None:
        with turns:
            served.append(number)

    with turns:
        threads = []
        for number in range(20):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert served == list(range(20))


def test_a_turn_is_handed_on_when_what_it_was_for_fails():
    turns = FairLock()
    with pytest.raises(ValueError, match="broken"), turns:
        raise ValueError("broken")
    with turns:
        pass


def test_viewers_who_ask_without_end_are_served_evenly():
    turns, served, end = FairLock(), [0] * 5, time.monotonic() + 0.5

    def watch(number: int) -> None:
        while time.monotonic() < end:
            with turns:
                served[number] += 1
                time.sleep(0.001)

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(served) - min(served) <= 3


def test_past_the_limit_a_viewer_is_told_to_wait_until_another_leaves():
    viewers = ViewerLimiter(2, patience=0.2)
    for name in ("a", "b"):
        viewers.arrive(name)
        viewers.leave(name)
    with pytest.raises(Busy, match="2 people are watching"):
        viewers.arrive("c")
    viewers.arrive("a")  # who is in stays in
    viewers.leave("a")
    time.sleep(0.25)
    viewers.arrive("c")


def test_a_viewer_has_one_frame_under_way():
    viewers = ViewerLimiter(2)
    viewers.arrive("a")
    with pytest.raises(Busy, match="one at a time"):
        viewers.arrive("a")
    viewers.leave("a")
    viewers.arrive("a")
