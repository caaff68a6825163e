"""The bundled checkpoint serves until the wanted one has arrived, or a sentence says why not."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from rtdetr_demo.checkpoints.catalog import BUNDLED
from rtdetr_demo.checkpoints.files import CONFIGS, WEIGHTS
from rtdetr_demo.checkpoints.hub import Download
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import Cancelled, CheckpointError, Forbidden
from rtdetr_demo.predictions import Predictions
from rtdetr_demo.serving.service import Service
from tests.support.processes import wait_for
from tests.support.services import MakeService
from tests.support.standin import HubStandIn

MODEL = "owner/tiny"
FILES = (*CONFIGS, WEIGHTS)


def detect(service: Service, image: Image.Image) -> Predictions:
    return service.engine.submit("visitor", image).result(60)


@pytest.fixture
def bundled_stands_in(tiny: Path, monkeypatch) -> Iterator[None]:
    """The small model in the place of the bundled one, so that these tests load fast."""
    monkeypatch.setattr("rtdetr_demo.checkpoints.hub.BUNDLED_FOLDER", tiny)
    yield


@pytest.fixture
def start(make_service: MakeService) -> Callable[[str], Service]:
    def start(checkpoint: str) -> Service:
        service = make_service(runtime="torch", checkpoint=checkpoint)
        service.start()
        return service

    return start


@pytest.mark.usefixtures("bundled_stands_in")
def test_the_wanted_checkpoint_takes_over_when_it_has_arrived(
    start: Callable[[str], Service], hub: HubStandIn, noise
):
    hub.behave = "slow"
    service = start(MODEL)
    assert service.checkpoints.active == BUNDLED
    assert detect(service, noise).checkpoint == BUNDLED
    wait_for(lambda: "on its way" in service.checkpoints.notice)
    hub.behave = "ok"
    wait_for(lambda: service.checkpoints.active == MODEL, 60)
    assert service.checkpoints.notice == ""
    assert detect(service, noise).checkpoint == MODEL


@pytest.mark.usefixtures("bundled_stands_in")
@pytest.mark.parametrize("behaviour", ["404", "401", "hang"])
def test_without_the_hub_the_bundled_checkpoint_serves_and_says_why(
    start: Callable[[str], Service], hub: HubStandIn, noise, behaviour
):
    hub.behave = behaviour
    service = start(MODEL)
    assert detect(service, noise).checkpoint == BUNDLED
    wait_for(lambda: not service.checkpoints.searching)
    assert "Using the bundled checkpoint instead of owner/tiny." in service.checkpoints.notice
    # The hub comes back, and a visitor asks again.
    hub.behave = "ok"
    service.checkpoints.download(MODEL)
    wait_for(lambda: service.checkpoints.active == MODEL, 60)
    assert service.checkpoints.notice == ""


@pytest.mark.usefixtures("bundled_stands_in")
def test_what_is_in_the_cache_serves_with_no_hub_at_all(
    start: Callable[[str], Service], hub: HubStandIn, monkeypatch, noise
):
    Download(MODEL).wait(30)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    service = start(MODEL)
    assert detect(service, noise).checkpoint == MODEL
    assert service.checkpoints.notice == ""


@pytest.mark.usefixtures("bundled_stands_in")
@pytest.mark.parametrize("damaged", FILES)
def test_a_damaged_checkpoint_leaves_the_bundled_one_serving(
    start: Callable[[str], Service], tiny: Path, tmp_path, noise, damaged
):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in FILES:
        content = (tiny / name).read_bytes()
        (broken / name).write_bytes(content[: len(content) // 2] if name == damaged else content)
    service = start(str(broken))
    wait_for(lambda: not service.checkpoints.searching)
    assert "damaged" in service.checkpoints.notice
    assert str(tmp_path) not in service.checkpoints.notice
    assert detect(service, noise).checkpoint == BUNDLED


@pytest.mark.usefixtures("bundled_stands_in")
def test_a_cancelled_download_does_not_unseat_the_checkpoint_that_serves(
    start: Callable[[str], Service], hub: HubStandIn
):
    Download(MODEL).wait(30)
    service = start(MODEL)
    wait_for(lambda: not service.checkpoints.searching)
    assert service.checkpoints.active == MODEL
    service.checkpoints.download(MODEL)
    download = SimpleNamespace(checkpoint=MODEL, wait=_cancelled)
    service.checkpoints._load_downloaded(download)
    assert service.checkpoints.active == MODEL


def _cancelled() -> None:
    raise Cancelled("The download was cancelled.")


@pytest.mark.usefixtures("bundled_stands_in")
def test_visitors_never_learn_where_the_operator_keeps_a_checkpoint(
    start: Callable[[str], Service], tiny: Path, noise
):
    service = start(str(tiny))
    assert detect(service, noise).checkpoint == tiny.name
    assert str(tiny) not in (
        service.checkpoints.wanted,
        service.checkpoints.active,
        service.checkpoints.notice,
    )


def test_two_visitors_who_ask_for_one_download_get_one(make_service: MakeService, hub: HubStandIn):
    hub.behave = "slow"
    service = make_service(runtime="torch", checkpoint=BUNDLED)
    download, is_new = service.checkpoints.store.download(MODEL)
    assert is_new
    assert service.checkpoints.store.download(MODEL) == (download, False)
    download.cancel()


def test_asking_again_for_a_download_under_way_starts_no_further_thread(
    make_service: MakeService, hub: HubStandIn
):
    hub.behave = "slow"
    service = make_service(runtime="torch", checkpoint=BUNDLED, any_checkpoint=True)
    service.checkpoints.download(MODEL, "10.0.0.1")
    for _ in range(5):
        service.checkpoints.download(MODEL, "10.0.0.2")
    waiting = [one for one in threading.enumerate() if "_load_downloaded" in one.name]
    assert len(waiting) == 1
    service.checkpoints.cancel_download(MODEL, "10.0.0.1")


def test_a_visitor_may_not_load_what_the_operator_did_not_allow(
    make_service: MakeService, tiny: Path
):
    barred = make_service(runtime="torch", checkpoint=BUNDLED)
    for name in (str(tiny), "owner/tiny", "/etc", "../x"):
        with pytest.raises(CheckpointError, match="not available on this demo"):
            barred.checkpoints.detector(name)
    free = make_service(runtime="torch", checkpoint=BUNDLED, any_checkpoint=True)
    assert free.checkpoints.detector(str(tiny)).depth == 6


def test_a_model_is_loaded_once_however_many_ask(
    make_service: MakeService, tiny: Path, monkeypatch
):
    loads = []
    real = Detector.load
    monkeypatch.setattr(Detector, "load", lambda name, *_: loads.append(name) or real(name, tiny))
    service = make_service(runtime="torch", checkpoint=str(tiny))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(service.checkpoints.detector()))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert loads == [tiny.name]


def test_only_who_began_a_download_may_stop_it(make_service: MakeService, hub: HubStandIn):
    hub.behave = "slow"
    service = make_service(checkpoint=BUNDLED, any_checkpoint=True, host="0.0.0.0")
    began, other = "203.0.113.5", "203.0.113.6"
    service.checkpoints.download(MODEL, began)
    download = service.checkpoints.store.downloading(MODEL)
    assert download
    with pytest.raises(Forbidden):
        service.checkpoints.cancel_download(MODEL, other)
    assert download.running
    service.checkpoints.cancel_download(MODEL, began)
    assert not download.running
    service.checkpoints.download(MODEL)  # the operator's
    with pytest.raises(Forbidden):
        service.checkpoints.cancel_download(MODEL, began)
