"""Clients take turns in a queue."""

import threading

from rtdetr_demo.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    items = []
    while taken := queue.take(timeout=0):
        items.append(taken[1])
    return items


def filled() -> FairQueue[str]:
    queue = FairQueue[str]()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.put(item[0], item)
    return queue


def test_clients_take_turns_and_keep_their_own_order():
    assert drained(filled()) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_the_place_in_line_is_the_number_of_items_served_before():
    queue = filled()
    expected = {"a1": 0, "b1": 1, "c1": 2, "a2": 3, "c2": 4, "a3": 5}
    assert {item: queue.ahead(item) for item in expected} == expected
    assert queue.ahead("unknown") is None


def test_a_client_whose_item_does_not_fit_keeps_its_turn():
    queue = filled()
    taken = queue.take(lambda client, item: client != "a", timeout=0)
    assert taken == ("b", "b1")
    assert drained(queue)[0] == "a1"


def test_items_that_are_alike_are_taken_one_of_each_client_at_a_time():
    queue = filled()
    assert queue.take_alike(3, lambda item: item != "b1") == ["a1", "c1", "a2"]
    assert drained(queue) == ["b1", "c2", "a3"]


def test_a_removed_item_is_never_taken():
    queue = filled()
    item = "".join(["a", "2"])
    queue.put("a", item)
    assert queue.remove(item)
    assert not queue.remove(item)
    assert len(drained(queue)) == 6


def test_closing_returns_what_waits_and_ends_who_waits():
    queue, results = FairQueue[str](), list[object]()
    waiting = threading.Thread(target=lambda: results.append(queue.take()))
    waiting.start()
    assert queue.close() == []
    waiting.join(5)
    assert results == [None]
    assert not queue.put("a", "late")
    assert filled().close() == ["a1", "a2", "a3", "b1", "c1", "c2"]
