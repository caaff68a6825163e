"""One thread measures, and lets go of what is dropped."""

import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.engine.requests import Params
from rtdetr_demo.errors import Cancelled
from rtdetr_demo.serving.latency_monitor import PREPARE_AFTER_REQUESTS, LatencyMonitor
from tests.support.processes import wait_for
from tests.support.services import MakeService


def at_once(turn, stop):
    return turn()


def measuring_threads() -> int:
    return sum(one.name == "measure" for one in threading.enumerate())


def test_a_dropped_model_is_let_go_though_its_measurement_was_under_way(tiny: Path, monkeypatch):
    began, ended = threading.Event(), threading.Event()

    def measure(detector, stop, execute):
        began.set()
        ended.set() if stop.wait(30) else None
        raise Cancelled("No longer needed.")

    monkeypatch.setattr("rtdetr_demo.serving.latency_monitor.measure_latency", measure)
    before = measuring_threads()
    worker = LatencyMonitor("torch", at_once)
    detectors = [Detector.load(name, tiny) for name in ("a", "b", "c")]
    for detector in detectors:
        worker.add(detector)
    assert measuring_threads() == before + 1
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
    monkeypatch.setattr("rtdetr_demo.serving.latency_monitor.PREPARE_AFTER_REQUESTS", 1)
    detector, asked = Detector.load("tiny", tiny), []

    def fail(*shape: object, **_: object) -> bool:
        asked.append(shape)
        raise RuntimeError("out of luck")

    monkeypatch.setattr(detector, "accelerate", fail)
    worker = LatencyMonitor("auto", at_once)
    worker.add(detector)
    wait_for(lambda: not worker.measuring("tiny"))
    worker.note_request(detector, Params(size=128))
    wait_for(lambda: len(asked) == 2 and not worker.preparing, 10)
    worker.note_request(detector, Params(size=128))
    assert not worker.preparing, "what failed is not tried again"
    worker.close()


def test_the_latency_of_every_depth_is_measured_after_a_model_loads(
    make_service: MakeService, tiny: Path
):
    service = make_service(runtime="torch", checkpoint=str(tiny))
    name = tiny.name
    assert service.latencies.latency(name) is None
    service.checkpoints.detector()
    assert service.latencies.measuring(name) or service.latencies.latency(name)
    wait_for(lambda: service.latencies.latency(name), 120)
    wait_for(lambda: not service.latencies.measuring(name))
    latency = service.latencies.latency(name)
    assert latency is not None
    assert len(latency.total_ms) == 6
    assert all(ms > 0 for ms in latency.total_ms)
    assert latency.size == (160, 160)


def test_the_faster_runtime_is_prepared_first_and_is_what_is_measured(
    make_service: MakeService, tiny: Path, monkeypatch
):
    calls: list[dict] = []

    def accelerate(self, *_: object, **how: object) -> bool:
        calls.append(how)
        monkeypatch.setattr(self.torch_backend(), "name", "Faster", raising=False)
        return True

    monkeypatch.setattr("rtdetr_demo.detector.detector.Detector.accelerate", accelerate)
    service = make_service(runtime="bf16", checkpoint=str(tiny))
    service.checkpoints.detector()
    wait_for(lambda: not service.latencies.measuring(tiny.name), 60)
    latency = service.latencies.latency(tiny.name)
    assert latency is not None
    assert latency.runtime == "Faster"
    assert [how["half"] for how in calls] == [True]


def test_measuring_never_runs_while_a_request_is_under_way(make_service: MakeService, tiny: Path):
    service = make_service(runtime="torch", checkpoint=str(tiny))
    with (Path(__file__).parents[2] / "examples" / "dogs.jpg").open("rb") as file:
        photo = file.read()
    service.checkpoints.detector()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        service.engine.submit("visitor", photo).result(30)
        assert service.latencies.latency(tiny.name) is None
    wait_for(lambda: service.latencies.latency(tiny.name), 60)


@pytest.mark.parametrize("works", [True, False])
def test_a_shape_that_is_asked_for_often_is_made_ready_once(tiny: Path, monkeypatch, works: bool):
    detector, asked = Detector.load("tiny", tiny), []

    def accelerate(*shape: object, **_: object) -> bool:
        asked.append(shape)
        return works

    monkeypatch.setattr(detector, "accelerate", accelerate)
    monkeypatch.setattr(detector, "is_accelerated", lambda *shape: works and shape in asked)
    worker = LatencyMonitor("auto", at_once)
    worker.add(detector)
    wait_for(lambda: not worker.measuring("tiny"))
    asked.clear()
    for _ in range(PREPARE_AFTER_REQUESTS - 1):
        worker.note_request(detector, Params(size=128))
    assert not worker.preparing
    worker.note_request(detector, Params(size=128))
    wait_for(lambda: asked == [(None, 128)] and not worker.preparing)
    for _ in range(2 * PREPARE_AFTER_REQUESTS):
        worker.note_request(detector, Params(size=128))
    assert not worker.preparing
    assert asked == [(None, 128)]
    worker.close()
