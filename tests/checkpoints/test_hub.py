"""Checkpoints come from the hub, or a sentence says why not."""

import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rtdetr_demo.checkpoints.catalog import BUNDLED, BUNDLED_FOLDER, CATALOGUE, describe
from rtdetr_demo.checkpoints.files import CONFIGS, WEIGHTS, weight_files
from rtdetr_demo.checkpoints.hub import Download, local_folder, why_unreachable
from rtdetr_demo.errors import Cancelled, CheckpointError
from rtdetr_demo.settings import DEFAULT_CHECKPOINT
from tests.support.processes import wait_for
from tests.support.standin import HubStandIn

MODEL = "owner/tiny"
FILES = (*CONFIGS, WEIGHTS)


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


def test_more_than_models_may_take_is_given_up_before_it_comes(hub: HubStandIn):
    download = Download(MODEL, max_bytes=1000)
    with pytest.raises(CheckpointError, match="more than models may take here"):
        download.wait(30)
    assert download.done_bytes == 0
    assert local_folder(MODEL) is None


def test_a_disk_without_room_is_said_before_the_download(hub: HubStandIn, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**28))
    with pytest.raises(CheckpointError, match="The disk is full"):
        Download(MODEL).wait(30)
    assert local_folder(MODEL) is None


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("404", "no public model"), ("401", "check HF_TOKEN"), ("gated", "its terms")],
)
def test_a_refusal_of_the_hub_is_a_sentence(hub: HubStandIn, behaviour, words):
    hub.behave = behaviour
    with pytest.raises(CheckpointError, match=words):
        Download(MODEL).wait(30)
    assert why_unreachable(MODEL)


@pytest.mark.alone
def test_a_hub_that_accepts_and_never_answers_is_given_up_after_its_time(hub: HubStandIn):
    hub.behave = "hang"
    began = time.monotonic()
    reason = why_unreachable(MODEL, seconds=1)
    assert time.monotonic() - began < 2
    assert reason == "The hub did not answer within 1 seconds."


def test_a_download_that_times_out_says_its_own_time(hub: HubStandIn, monkeypatch):
    hub.behave = "hang"
    monkeypatch.setattr("rtdetr_demo.checkpoints.hub.DOWNLOAD_TIMEOUT", 2.0)
    with pytest.raises(CheckpointError, match="did not answer within 2 seconds"):
        Download(MODEL).wait(30)


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


def test_the_bundled_checkpoint_is_here():
    assert local_folder(BUNDLED) == BUNDLED_FOLDER
    assert weight_files(BUNDLED_FOLDER)
