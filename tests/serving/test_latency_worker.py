"""One thread measures, and lets go of what is dropped."""

import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from rtdetr_demo.errors import Cancelled
from rtdetr_demo.model.detector import Detector
from rtdetr_demo.serving.latency_worker import LatencyWorker


def wait_for(what, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_dropped_model_is_let_go_though_its_measurement_was_under_way(tiny: Path, monkeypatch):
    began, ended = threading.Event(), threading.Event()

    def measure(detector, stop):
        began.set()
        ended.set() if stop.wait(30) else None
        raise Cancelled("No longer needed.")

    monkeypatch.setattr("rtdetr_demo.serving.latency_worker.measure_latency", measure)
    worker = LatencyWorker("torch")
    detectors = [Detector.load(name, tiny) for name in ("a", "b", "c")]
    for detector in detectors:
        worker.add(detector)
    assert sum(one.name == "measure" for one in threading.enumerate()) == 1
    assert began.wait(10)
    seen = [weakref.ref(detector) for detector in detectors]
    for name in "abc":
        worker.remove(name)
    detectors.clear()
    del detector
    assert ended.wait(10)

    def are_gone() -> bool:
        gc.collect()
        return not any(one() for one in seen)

    wait_for(are_gone, 10)
    worker.close()


@pytest.mark.usefixtures("tiny")
def test_a_backend_that_fails_to_prepare_is_not_being_prepared_for_ever(tiny: Path, monkeypatch):
    monkeypatch.setattr("rtdetr_demo.serving.latency_worker.PREPARE_AFTER_REQUESTS", 1)
    detector, asked = Detector.load("tiny", tiny), []

    def fail(*shape: object, **_: object) -> bool:
        asked.append(shape)
        raise RuntimeError("out of luck")

    monkeypatch.setattr(detector, "accelerate", fail)
    worker = LatencyWorker("auto")
    worker.add(detector)
    wait_for(lambda: not worker.measuring("tiny"))
    worker.note_shape(detector, None, 128)
    wait_for(lambda: len(asked) == 2 and not worker._preparing.is_set(), 10)
    worker.note_shape(detector, None, 128)
    assert not worker._preparing.is_set(), "what failed is not tried again"
    worker.close()
