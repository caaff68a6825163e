"""Pictures under way are bounded in all and for each client."""

import contextvars
import threading

import pytest

from rtdetr_demo.engine.admission import Admission
from rtdetr_demo.engine.fair_pool import FairPool
from rtdetr_demo.errors import Busy, TooLarge, TooManyRequests
from tests.support.processes import wait_for


def test_pictures_are_bounded_in_all_and_for_each_account():
    admission = Admission(capacity=6, share=4)
    with admission.admit(["a", "address"], 3):
        with pytest.raises(TooManyRequests), admission.admit(["a", "elsewhere"], 2):
            pass
        with pytest.raises(TooManyRequests), admission.admit(["b", "address"], 2):
            pass
        with (
            admission.admit(["b"], 3),
            pytest.raises(TooManyRequests) as refusal,
            admission.admit(["c"], 1),
        ):
            pass
        assert refusal.value.retry_after >= 1
        with admission.admit(["b"], 3):
            pass
    with admission.admit(["a", "address"], 4):
        pass
    with pytest.raises(TooLarge), admission.admit(["a"], 5):
        pass


def test_nothing_is_admitted_once_it_is_closed():
    admission = Admission(6, 4)
    admission.close()
    with pytest.raises(Busy), admission.admit(["a"]):
        pass


def test_a_client_runs_no_more_than_its_share_while_others_run():
    pool, gate, running = FairPool(4, 2, "test"), threading.Event(), list[int]()
    slow = [pool.submit("slow", lambda n=n: running.append(n) or gate.wait(10)) for n in range(6)]
    wait_for(lambda: len(running) == 2)
    assert [pool.submit("quick", lambda: 7).result(5) for _ in range(20)] == [7] * 20
    assert len(running) == 2
    gate.set()
    assert all(future.result(5) for future in slow)
    pool.close()


def test_a_closed_pool_fails_what_waits():
    pool, gate, began = FairPool(1, 1, "test"), threading.Event(), threading.Event()
    running = pool.submit("a", lambda: began.set() or gate.wait(10))
    assert began.wait(5)
    waiting = pool.submit("a", lambda: None)
    pool.close()
    with pytest.raises(Busy):
        waiting.result(5)
    with pytest.raises(Busy):
        pool.submit("a", lambda: None).result(5)
    gate.set()
    assert running.result(5)


def test_work_in_a_pool_sees_the_callers_context():
    visitor = contextvars.ContextVar("visitor", default="nobody")
    pool = FairPool(1, 1, "test")
    visitor.set("someone")
    assert pool.submit("a", visitor.get).result(5) == "someone"
    pool.close()
