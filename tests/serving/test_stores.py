"""What is kept for visitors is bounded by bytes, and work for nobody ends."""

import errno
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rtdetr_demo.errors import Expired
from rtdetr_demo.predictions import Predictions, Timing
from rtdetr_demo.serving.jobs import Job, Jobs
from rtdetr_demo.serving.quota import Quota
from rtdetr_demo.serving.result_store import ResultStore
from rtdetr_demo.serving.scratch import Scratch

ONE = Predictions(
    "", ("dog",), 10, 10, np.zeros((1, 1)), np.zeros((1, 1), int), np.zeros((1, 1), int),
    np.zeros((1, 1, 4)), Timing(0, 0, 0),
)  # fmt: skip


@pytest.fixture
def scratch(tmp_path):
    scratch = Scratch(tmp_path)
    yield scratch
    scratch.close()


def test_results_past_their_bytes_go_oldest_first_downloads_counted(scratch):
    results = ResultStore(scratch, max_bytes=250)
    first, second = (results.keep(bytes(100), ONE, f"visitor {n}") for n in range(2))
    results.add_file(second, "detections.png", bytes(60))
    third = results.keep(bytes(100), ONE, "visitor 2")
    assert [one.folder.exists() for one in (first, second, third)] == [False, False, True]
    with pytest.raises(Expired):
        results.get(second.id)


def test_a_visitor_past_their_share_loses_their_own_oldest_and_nobody_elses(scratch):
    results = ResultStore(scratch, max_bytes=1000)
    theirs = results.keep(bytes(200), ONE, "them")
    mine = [results.keep(bytes(100), ONE, "me") for _ in range(4)]
    assert [one.folder.exists() for one in (theirs, *mine)] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("held", "max_bytes", "max_count", "expected"),
    [
        ([("a", 100)], 10, 10, []),  # the newest stays
        ([("a", 1), ("b", 1), ("c", 1)], 40, 2, ["0"]),  # by count, the oldest
        ([("a", 8), ("b", 9), ("c", 9), ("d", 9), ("e", 9)], 40, 40, ["0"]),  # in all
        ([("b", 5), ("a", 6), ("a", 6)], 40, 40, ["1"]),  # a's share is 10
        ([("b", 30), ("a", 6), ("a", 4)], 40, 40, []),  # b's is past its share, and the only one
        ([("b", 1), ("a", 1), ("a", 1), ("a", 1)], 40, 8, ["1"]),  # a's share is two
    ],
)
def test_what_goes_past_a_quota(held, max_bytes, max_count, expected):
    quota, gone = Quota(max_bytes, max_count), list[str]()
    for number, (owner, size) in enumerate(held):
        quota.add(f"{number}", owner, size)
        gone += quota.excess()
    assert gone == expected


def test_ten_thousand_results_are_kept_within_their_quota_in_no_time():
    quota, began = Quota(1e9, 200), time.monotonic()
    for number in range(10_000):
        quota.add(f"{number}", f"visitor {number % 7}", 1000)
        quota.excess()
    assert time.monotonic() - began < 2


def test_a_result_that_was_dropped_does_not_come_back(scratch):
    results = ResultStore(scratch, capacity=1)
    first = results.keep(b"1", ONE, "visitor")
    results.keep(b"2", ONE, "another")
    with pytest.raises(Expired):
        results.replace(first.id, ONE)
    with pytest.raises(Expired):
        results.get(first.id)


def test_a_result_survives_that_the_folder_is_deleted_from_outside(scratch):
    results = ResultStore(scratch)
    shutil.rmtree(scratch.path)
    assert results.keep(b"1", ONE, "visitor").original.read_bytes() == b"1"


def test_jobs_past_their_bytes_go_oldest_first(scratch):
    jobs = Jobs(scratch, "videos", max_bytes=100)

    def work(job: Job) -> str:
        (job.folder / "annotated.mp4").write_bytes(bytes(80))
        return "done"

    made = []
    for n in range(3):
        made.append(jobs.start(work, f"visitor {n}"))
        made[-1].thread.join(10)
    assert [job.folder.exists() for job in made] == [False, True, True]
    jobs.close()


def test_a_job_that_nobody_asks_for_ends_and_one_that_is_asked_for_does_not(scratch):
    jobs = Jobs(scratch, "videos", abandon_timeout=0.5)
    stopped = threading.Event()

    def work(job: Job) -> str:
        if job.stop.wait(10):
            stopped.set()
        return "done"

    job = jobs.start(work, "visitor")
    for _ in range(10):
        jobs.get(job.id)
        assert not job.stop.wait(0.1)
    assert stopped.wait(5)
    jobs.close()


def test_a_result_that_finds_no_room_leaves_no_folder(scratch, monkeypatch):
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    results = ResultStore(scratch)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        results.keep(b"picture", ONE, "someone")
    assert list(scratch.folder("results").iterdir()) == []


def test_an_uploaded_file_is_linked_and_not_copied(scratch):
    uploaded = scratch.uploads / "photo.jpg"
    uploaded.write_bytes(b"picture")
    result = ResultStore(scratch).keep(uploaded, ONE, "someone")
    assert result.original.samefile(uploaded)
    uploaded.unlink()
    assert result.original.read_bytes() == b"picture"
