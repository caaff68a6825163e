"""One thread runs every request; clients take turns, and idle work waits for them."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from rtdetr_demo.engine.engine import Engine
from rtdetr_demo.engine.requests import Params
from rtdetr_demo.errors import BadInput, Busy, Cancelled, CheckpointError, NotAPicture
from tests.support.processes import wait_for


class FakeDevice:
    """Answers with the widths of the pictures, when `gate` is open."""

    threads = 1

    def __init__(self, limit: int = 1):
        self.limit = limit
        self.batches: list[list[int]] = []
        self.threads_seen: set[str] = set()
        self.gate = threading.Event()
        self.began = threading.Event()

    def batch_limit(self, detector: Any) -> int:
        return self.limit

    def prepare(self, detector: Any, image: Image.Image, params: Params) -> int:
        if params.decoder_layers == 99:
            raise BadInput("No such layer.")
        return image.width

    def detect(self, detector: Any, pictures: Sequence[int], params: Params) -> list[Any]:
        self.threads_seen.add(threading.current_thread().name)
        self.batches.append(list(pictures))
        self.began.set()
        assert self.gate.wait(10)
        if params.decoder_layers == 13:
            raise BadInput("Broken.")
        return list(pictures)

    def inspect(self, detector: Any, picture: int, params: Params) -> Any:
        return self.detect(detector, [picture], params)[0]


DETECTORS = {"a": SimpleNamespace(checkpoint="a"), "b": SimpleNamespace(checkpoint="b")}


def load(name: str | None) -> "Future[Any]":
    if (name or "a") not in DETECTORS:
        raise CheckpointError("There is no such checkpoint.")
    future: Future[Any] = Future()
    future.set_result(DETECTORS[name or "a"])
    return future


Make = Callable[..., tuple[Engine, FakeDevice]]


@pytest.fixture
def make() -> Iterator[Make]:
    engines = []

    def make(limit: int = 1, **options: Any) -> tuple[Engine, FakeDevice]:
        device = FakeDevice(limit)
        engines.append(Engine(load, device, **options))
        return engines[-1], device

    yield make
    for engine in engines:
        engine.device.gate.set()  # type: ignore[attr-defined]
        engine.close()


def picture(width: int) -> Image.Image:
    return Image.new("RGB", (width, 1))


def submit_all(engine: Engine, device: FakeDevice, requests: list[tuple]) -> list[Future]:
    """Submit a first request, which holds the device, and then the others, which wait."""
    first = engine.submit("first", picture(1))
    assert device.began.wait(5)
    waiting = [engine.submit(*request) for request in requests]
    wait_for(lambda: engine.waiting == len(requests))
    return [first, *waiting]


def test_clients_take_turns_however_much_one_submits(make: Make):
    engine, device = make()
    requests = [("greedy", picture(10 + n)) for n in range(4)] + [("modest", picture(20))]
    futures = submit_all(engine, device, requests)
    device.gate.set()
    assert [future.result(5) for future in futures] == [1, 10, 11, 12, 13, 20]
    assert device.batches == [[1], [10], [20], [11], [12], [13]]


def test_one_thread_runs_every_pass(make: Make):
    engine, device = make()
    device.gate.set()
    futures = [engine.submit(f"{n % 5}", picture(n + 1)) for n in range(40)]
    futures += [engine.inspect("other", picture(3))]
    for future in futures:
        future.result(5)
    assert device.threads_seen == {"device-0"}


def test_requests_that_are_alike_share_a_pass_on_a_gpu(make: Make):
    engine, device = make(limit=8)
    cut, other = Params(decoder_layers=2), Params("b")
    requests = [(f"{n}", picture(10 + n), cut) for n in range(3)]
    requests += [("3", picture(20), other), ("4", picture(13), cut)]
    futures = submit_all(engine, device, requests)
    device.gate.set()
    for future in futures:
        future.result(5)
    assert sorted(device.batches) == [[1], [10, 11, 12, 13], [20]]


def test_a_pass_that_fails_fails_only_the_requests_in_it(make: Make):
    engine, device = make(limit=8)
    broken = Params(decoder_layers=13)
    futures = submit_all(engine, device, [("x", picture(2), broken), ("y", picture(3))])
    device.gate.set()
    with pytest.raises(BadInput, match="Broken"):
        futures[1].result(5)
    assert futures[2].result(5) == 3


def test_a_picture_or_parameter_that_cannot_be_used_never_reaches_the_device(make: Make):
    engine, device = make()
    device.gate.set()
    with pytest.raises(NotAPicture):
        engine.submit("x", b"no picture").result(20)
    with pytest.raises(BadInput, match="No such layer"):
        engine.submit("x", picture(1), Params(decoder_layers=99)).result(5)
    with pytest.raises(CheckpointError):
        engine.submit("x", picture(1), Params("unknown")).result(5)
    with pytest.raises(BadInput, match="web address"):
        engine.submit("x", "ftp://example.com/a.jpg").result(5)
    assert device.batches == []


def test_bytes_are_decoded_before_the_device_takes_them(make: Make):
    engine, device = make()
    device.gate.set()
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, "PNG")
    assert engine.submit("x", buffer.getvalue()).result(20) == 30


def test_a_cancelled_request_never_runs(make: Make):
    engine, device = make()
    futures = submit_all(engine, device, [("x", picture(2)), ("y", picture(3))])
    assert futures[1].cancel()
    device.gate.set()
    assert futures[2].result(5) == 3
    assert device.batches == [[1], [3]]
    with pytest.raises(CancelledError):
        futures[1].result()


def test_a_client_can_ask_for_its_place_in_line(make: Make):
    engine, device = make()
    requests = [("x", picture(2), None, "x1"), ("x", picture(3), None, "x2")]
    requests += [("y", picture(4), None, "y1")]
    futures = submit_all(engine, device, requests)
    places = [engine.ahead(*name) for name in [("x", "x1"), ("x", "x2"), ("y", "y1")]]
    assert places == [0, 2, 1]
    assert engine.ahead("y", "x1") is None, "a ticket of another client"
    device.gate.set()
    for future in futures:
        future.result(5)
    assert engine.ahead("x", "x1") is None


def test_idle_work_waits_until_no_request_is_under_way(make: Make):
    engine, device = make()
    futures = submit_all(engine, device, [("x", picture(2))])
    order: list[str] = []
    idle = threading.Thread(target=lambda: engine.run_when_idle(lambda: order.append("idle")))
    idle.start()
    futures[1].add_done_callback(lambda _: order.append("request"))
    time.sleep(0.1)
    assert order == []
    device.gate.set()
    idle.join(5)
    assert order == ["request", "idle"]


def test_idle_work_runs_in_the_thread_of_the_device_and_returns_its_result(make: Make):
    engine, _ = make()
    assert engine.run_when_idle(lambda: threading.current_thread().name) == "device-0"
    with pytest.raises(ZeroDivisionError):
        engine.run_when_idle(lambda: 1 / 0)


def test_idle_work_that_is_stopped_before_it_begins_is_cancelled(make: Make):
    engine, device = make()
    submit_all(engine, device, [])
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Cancelled):
        engine.run_when_idle(lambda: None, stop)


def test_closing_fails_what_waits_and_what_comes(make: Make):
    engine, device = make()
    futures = submit_all(engine, device, [("x", picture(2))])
    threading.Timer(0.2, device.gate.set).start()
    engine.close()
    assert futures[0].result(5) == 1, "what runs is finished"
    with pytest.raises(Busy):
        futures[1].result(5)
    with pytest.raises(Busy):
        engine.submit("x", picture(3)).result(5)
    with pytest.raises(Cancelled):
        engine.run_when_idle(lambda: None)


def test_closing_waits_no_longer_than_its_deadline(make: Make):
    engine, device = make()
    submit_all(engine, device, [])
    began = time.monotonic()
    engine.close(deadline=began + 0.2)
    assert time.monotonic() - began < 2


def test_a_detector_is_looked_up_once_per_request(monkeypatch):
    names: list[str | None] = []

    def counted(name: str | None) -> "Future[Any]":
        names.append(name)
        return load(name)

    device = FakeDevice()
    device.gate.set()
    engine = Engine(counted, device)
    engine.submit("x", picture(1), Params("b")).result(5)
    engine.close()
    assert names == ["b"]
