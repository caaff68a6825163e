"""Whoever asks first is served first."""

import threading
import time

import pytest

from rtdetr_demo.detector.scheduler import FairLock


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
    turns, served, begin = FairLock(), [0] * 5, threading.Barrier(5)

    def watch(number: int) -> None:
        begin.wait()
        while sum(served) < 500:
            with turns:
                served[number] += 1
                time.sleep(0.001)

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A busy machine may let a thread ask again too late for a turn, a few times in a hundred; with
    # an ordinary lock one thread takes nearly all of them.
    assert min(served) > 0.9 * max(served)
