"""Checkpoints come from the hub, or a sentence says why not; the bundled one serves throughout."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rtdetr_demo.checkpoints.catalog import BUNDLED, BUNDLED_FOLDER, CATALOGUE, describe
from rtdetr_demo.checkpoints.files import CONFIGS, WEIGHTS, weight_files
from rtdetr_demo.checkpoints.hub import Download, local_folder, why_unreachable
from rtdetr_demo.errors import Cancelled, CheckpointError
from rtdetr_demo.model.detector import Detector
from rtdetr_demo.serving.service import Service
from rtdetr_demo.settings import DEFAULT_CHECKPOINT, Settings
from tests.support.standin import HubStandIn

MODEL = "owner/tiny"
FILES = (*CONFIGS, WEIGHTS)


def wait_for(what, seconds: float = 30.0) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.02)


def test_a_download_ends_in_the_cache_and_counts_every_byte(hub: HubStandIn, tiny: Path):
    assert local_folder(MODEL) is None
    download = Download(MODEL)
    download.wait(30)
    folder = local_folder(MODEL)
    assert folder is not None
    for name in FILES:
        assert (folder / name).read_bytes() == (tiny / name).read_bytes()
    total = sum((tiny / name).stat().st_size for name in FILES)
    assert download.done_bytes == download.total_bytes == total


def test_a_cut_connection_is_resumed_not_begun_again(hub: HubStandIn, tiny: Path):
    hub.behave = "cut"
    download = Download(MODEL)
    download.wait(30)
    folder = local_folder(MODEL)
    assert folder is not None
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (tiny / weights).read_bytes()
    [resumed] = hub.ranges
    start = int(resumed.removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= (tiny / weights).stat().st_size // 2


def test_a_download_can_be_cancelled_and_begun_again(hub: HubStandIn):
    hub.behave = "slow"
    download = Download(MODEL)
    wait_for(lambda: download.done_bytes > 20_000)
    assert 0 < download.done_bytes < download.total_bytes
    download.cancel()
    assert not download.running
    with pytest.raises(Cancelled):
        download.wait()
    assert local_folder(MODEL) is None
    hub.behave = "ok"
    Download(MODEL).wait(30)
    assert local_folder(MODEL) is not None


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("404", "no public model"), ("401", "check HF_TOKEN"), ("gated", "its terms")],
)
def test_a_refusal_of_the_hub_is_a_sentence(hub: HubStandIn, behaviour, words):
    hub.behave = behaviour
    with pytest.raises(CheckpointError, match=words):
        Download(MODEL).wait(30)
    assert why_unreachable(MODEL)


def test_a_hub_that_accepts_and_never_answers_is_given_up_after_its_time(hub: HubStandIn):
    hub.behave = "hang"
    began = time.monotonic()
    reason = why_unreachable(MODEL, seconds=1)
    assert time.monotonic() - began < 2
    assert reason
    assert "did not answer" in reason or "cannot be reached" in reason


def test_no_network_is_a_sentence(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    assert "cannot be reached" in str(why_unreachable(MODEL))


def test_offline_mode_is_honoured(hub: HubStandIn, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in str(why_unreachable(MODEL))
    assert hub.served_weights == 0


@pytest.mark.parametrize("name", ["", "a/b/c", "no spaces/here", "../../etc", "x" * 300])
def test_a_name_that_is_no_hub_id_is_a_sentence(hub: HubStandIn, name):
    assert local_folder(name or "\0") is None
    assert why_unreachable(name)


def test_the_catalogue_offers_the_model_page_and_the_bundled_checkpoint():
    ids = [checkpoint.id for checkpoint in CATALOGUE]
    assert len(ids) == len(set(ids))
    for size in ("r18vd", "r34vd", "r50vd", "r101vd"):
        assert f"PekingU/rtdetr_{size}" in ids
    assert {DEFAULT_CHECKPOINT, "PekingU/rtdetr_r101vd_coco_o365", BUNDLED} <= set(ids)
    published = describe(DEFAULT_CHECKPOINT).published
    assert (published.params, published.t4_fps, published.ap) == (42, 108, 55.3)
    assert describe("own/model").published.ap is None


# --- What serves while all that happens -----------------------------------------------------------


@pytest.fixture
def bundled_stands_in(tiny: Path, monkeypatch) -> Iterator[None]:
    """The small model in the place of the bundled one, so that these tests load fast."""
    monkeypatch.setattr("rtdetr_demo.checkpoints.hub.BUNDLED_FOLDER", tiny)
    yield


def started(checkpoint: str) -> Service:
    service = Service(Settings(runtime="torch", checkpoint=checkpoint))
    service.start()
    return service


@pytest.mark.usefixtures("bundled_stands_in")
def test_the_wanted_checkpoint_takes_over_when_it_has_arrived(hub: HubStandIn, noise):
    hub.behave = "slow"
    service = started(MODEL)
    assert service.active == BUNDLED
    assert service.detector().detect(noise).checkpoint == BUNDLED
    wait_for(lambda: "on its way" in service.notice)
    hub.behave = "ok"
    wait_for(lambda: service.active == MODEL, 60)
    assert service.notice == ""
    assert service.detector().detect(noise).checkpoint == MODEL


@pytest.mark.usefixtures("bundled_stands_in")
@pytest.mark.parametrize("behaviour", ["404", "401", "hang"])
def test_without_the_hub_the_bundled_checkpoint_serves_and_says_why(
    hub: HubStandIn, noise, behaviour
):
    hub.behave = behaviour
    service = started(MODEL)
    assert service.detector().detect(noise).checkpoint == BUNDLED
    wait_for(lambda: not service.searching)
    assert "The bundled checkpoint serves instead of owner/tiny." in service.notice
    # The hub comes back, and a visitor asks again.
    hub.behave = "ok"
    service.try_hub(MODEL)
    wait_for(lambda: service.active == MODEL, 60)
    assert service.notice == ""


@pytest.mark.usefixtures("bundled_stands_in")
def test_what_is_in_the_cache_serves_with_no_hub_at_all(hub: HubStandIn, monkeypatch, noise):
    Download(MODEL).wait(30)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    service = started(MODEL)
    assert service.detector().detect(noise).checkpoint == MODEL
    assert service.notice == ""


@pytest.mark.usefixtures("bundled_stands_in")
@pytest.mark.parametrize("damaged", FILES)
def test_a_damaged_checkpoint_leaves_the_bundled_one_serving(tiny: Path, tmp_path, noise, damaged):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in FILES:
        content = (tiny / name).read_bytes()
        (broken / name).write_bytes(content[: len(content) // 2] if name == damaged else content)
    service = started(str(broken))
    wait_for(lambda: not service.searching)
    assert "damaged or incomplete" in service.notice
    assert str(tmp_path) not in service.notice
    assert service.detector().detect(noise).checkpoint == BUNDLED


@pytest.mark.usefixtures("bundled_stands_in")
def test_a_cancelled_download_does_not_unseat_the_checkpoint_that_serves(hub: HubStandIn):
    Download(MODEL).wait(30)
    service = started(MODEL)
    wait_for(lambda: not service.searching)
    assert service.active == MODEL
    service.try_hub(MODEL)
    service._arrive(SimpleNamespace(checkpoint=MODEL, wait=_cancelled))
    assert service.active == MODEL


def _cancelled() -> None:
    raise Cancelled("The download was cancelled.")


@pytest.mark.usefixtures("bundled_stands_in")
def test_visitors_never_learn_where_the_operator_keeps_a_checkpoint(tiny: Path, noise):
    service = started(str(tiny))
    assert service.detect(noise).checkpoint == tiny.name
    assert str(tiny) not in (service.wanted, service.active, service.notice)


def test_two_visitors_who_ask_for_one_download_get_one(hub: HubStandIn):
    hub.behave = "slow"
    service = Service(Settings(runtime="torch", checkpoint=BUNDLED))
    assert service.store.download(MODEL) is service.store.download(MODEL)
    service.store.download(MODEL).cancel()


def test_a_visitor_may_not_load_what_the_operator_did_not_allow(tiny: Path):
    barred = Service(Settings(runtime="torch", checkpoint=BUNDLED))
    for name in (str(tiny), "owner/tiny", "/etc", "../x"):
        with pytest.raises(CheckpointError, match="not on this demo's list"):
            barred.detector(name)
    free = Service(Settings(runtime="torch", checkpoint=BUNDLED, any_checkpoint=True))
    assert free.detector(str(tiny)).depth == 6


def test_a_model_is_loaded_once_however_many_ask(tiny: Path, monkeypatch):
    loads = []
    real = Detector.load
    monkeypatch.setattr(Detector, "load", lambda name, *_: loads.append(name) or real(name, tiny))
    service = Service(Settings(runtime="torch", checkpoint=str(tiny)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(service.detector())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert loads == [tiny.name]


def test_past_the_memory_limit_the_least_recently_used_model_is_dropped(tiny: Path, tmp_path):
    copies = []
    for name in "abc":
        copy = tmp_path / name
        copy.mkdir()
        for file in FILES:
            (copy / file).write_bytes((tiny / file).read_bytes())
        copies.append(str(copy))
    service = Service(Settings(runtime="torch", checkpoint=copies[0], any_checkpoint=True))
    first = service.detector(copies[0])
    service.store._memory_bytes = int(first.memory_bytes * 2.5)
    service.detector(copies[1])
    service.detector(copies[0])
    service.detector(copies[2])
    assert service.store.loaded() == [copies[0], copies[2]]


def test_the_latency_of_every_depth_is_measured_after_a_model_loads(tiny: Path):
    service = Service(Settings(runtime="torch", checkpoint=str(tiny)))
    name = tiny.name
    assert service.latencies.latency(name) is None
    service.detector()
    assert service.latencies.measuring(name) or service.latencies.latency(name)
    wait_for(lambda: service.latencies.latency(name), 120)
    wait_for(lambda: not service.latencies.measuring(name))
    latency = service.latencies.latency(name)
    assert latency is not None
    assert len(latency.total_ms) == 6
    assert all(ms > 0 for ms in latency.total_ms)
    assert latency.size == (160, 160)


def test_what_is_made_ready_in_the_background_is_measured_again(tiny: Path, monkeypatch):
    asked: list[dict] = []

    def accelerate(self, *_: object, **how: object) -> bool:
        asked.append(how)
        assert service.latencies.latency(tiny.name), "the plain path serves, and is known, before"
        monkeypatch.setattr(self.torch_backend(), "name", "Faster", raising=False)
        return True

    monkeypatch.setattr("rtdetr_demo.model.detector.Detector.accelerate", accelerate)
    service = Service(Settings(runtime="bf16", checkpoint=str(tiny)))
    service.detector()
    wait_for(lambda: not service.latencies.measuring(tiny.name), 60)
    latency = service.latencies.latency(tiny.name)
    assert latency is not None
    assert latency.runtime == "Faster"
    assert [how["half"] for how in asked] == [True]


@pytest.mark.parametrize("works", [True, False])
def test_a_shape_that_is_asked_for_often_is_made_ready_once(tiny, noise, monkeypatch, works):
    asked: list[tuple] = []

    def accelerate(self, *shape: object, **how: object) -> bool:
        asked.append(shape)
        if works and shape:
            self._backends[self._key(*shape)] = self.torch_backend()
        return works

    monkeypatch.setattr("rtdetr_demo.model.detector.Detector.accelerate", accelerate)
    service = Service(Settings(checkpoint=str(tiny)))
    service.detector()
    wait_for(lambda: not service.latencies.measuring(tiny.name), 60)
    asked.clear()
    for _ in range(9):
        service.detect(noise, size=128)
    assert not asked
    service.detect(noise, size=128)
    wait_for(lambda: asked == [(None, 128)], 10)
    wait_for(lambda: not service.latencies._preparing.is_set(), 10)
    for _ in range(25):
        service.detect(noise, size=128)
    assert asked == [(None, 128)]


def test_the_bundled_checkpoint_is_here():
    assert local_folder(BUNDLED) == BUNDLED_FOLDER
    assert weight_files(BUNDLED_FOLDER)
