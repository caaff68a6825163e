"""Live viewers are limited in all and for each address."""

import time

import pytest

from rtdetr_demo.errors import Busy
from rtdetr_demo.serving.viewers import ViewerLimiter


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
    with pytest.raises(Busy, match="still being processed"):
        viewers.begin_frame("a")
    viewers.end_frame("a")
    viewers.begin_frame("a")
