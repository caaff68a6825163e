"""The files of a checkpoint: whole, in shards, and within bounds."""

import json
import shutil
import time
from pathlib import Path

import pytest
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file

from rtdetr_demo.checkpoints.files import check_bounds, shards, weight_files
from rtdetr_demo.checkpoints.hub import Download, _reason, local_folder
from rtdetr_demo.checkpoints.store import ModelStore
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import CheckpointError
from tests.support.models import random_model, save, small
from tests.support.standin import HubStandIn


@pytest.fixture(scope="module")
def sharded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with its weights in several files."""
    folder = tmp_path_factory.mktemp("sharded")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(tiny / name, folder)
    state = load_file(tiny / "model.safetensors")
    save_torch_state_dict(state, folder, max_shard_size=100_000)
    return folder


def test_weights_in_shards_load_as_weights_in_one_file(tiny: Path, sharded: Path, noise):
    files = weight_files(sharded)
    assert files
    assert len(files) > 1
    whole, parts = Detector.load("tiny", tiny), Detector.load("tiny", sharded)
    assert (whole.detect(noise).scores == parts.detect(noise).scores).all()


def test_shards_come_from_the_hub_and_one_that_lacks_makes_no_checkpoint(
    sharded: Path, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with HubStandIn({"owner/sharded": sharded}) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        download = Download("owner/sharded")
        download.wait(30)
        assert download.done_bytes == download.total_bytes
        folder = local_folder("owner/sharded")
    assert folder
    files = weight_files(folder)
    assert files
    files[0].unlink()
    assert local_folder("owner/sharded") is None


@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": {"a": "../../etc/passwd"}}',
     b'{"weight_map": {"a": 3}}', b'{"weight_map": ["a"]}'],
)  # fmt: skip
def test_an_index_that_names_other_files_is_damaged(index: bytes):
    with pytest.raises(CheckpointError, match="damaged"):
        shards(index)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"num_queries": 10**6}),
        ("config.json", {"decoder_layers": 5000}),
        ("config.json", {"encoder_layers": 10**9}),
        ("config.json", {"d_model": 10**6}),
        ("config.json", {"backbone_config": {"model_type": "rt_detr_resnet", "depths": [9**9]}}),
        ("config.json", {"backbone_config": {"hidden_sizes": [10**7]}}),
        ("config.json", {"id2label": {str(i): "x" for i in range(20_000)}}),
        ("config.json", {"d_model": 8192, "encoder_hidden_dim": 8192, "decoder_ffn_dim": 8192,
                         "decoder_layers": 24}),
        ("preprocessor_config.json", {"size": {"height": 10**5, "width": 10**5}}),
    ],
)  # fmt: skip
def test_a_config_past_all_bounds_is_refused_before_anything_is_built(
    tiny: Path, tmp_path, file, change
):
    folder = tmp_path / "huge"
    shutil.copytree(tiny, folder)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **change}))
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="asks for"):
        ModelStore(2**32).get(str(folder))
    assert time.monotonic() - began < 20


def test_usual_configs_are_within_bounds(tiny: Path, random_r50: Path):
    for folder in (tiny, random_r50):
        check_bounds("usual", folder)


def test_room_is_made_before_a_model_is_loaded(tiny: Path, tmp_path, monkeypatch):
    held: list[list[str]] = []
    real = Detector.load
    folders = [str(shutil.copytree(tiny, tmp_path / name)) for name in "ab"]
    first = real("first", tiny)
    store = ModelStore(int(first.memory_bytes * 1.5))

    def load(name: str, folder: Path, device: object = None) -> Detector:
        held.append(store.loaded())
        return real(name, folder)

    monkeypatch.setattr(Detector, "load", load)
    store.get(folders[0])
    store.get(folders[1])
    assert held == [[], []]
    with pytest.raises(CheckpointError, match="more than models may take"):
        ModelStore(1000).get(folders[0])


def test_past_the_memory_limit_the_least_recently_used_model_is_dropped(tiny: Path, tmp_path):
    first, second, third = (str(shutil.copytree(tiny, tmp_path / name)) for name in "abc")
    store = ModelStore(int(Detector.load("first", tiny).memory_bytes * 2.5))
    for folder in (first, second, first, third):
        store.get(folder)
    assert store.loaded() == [first, third]


def test_a_checkpoint_whose_forward_pass_is_another_is_refused(tmp_path):
    odd = save(random_model(**small(learn_initial_query=True)), tmp_path / "odd", 160)
    with pytest.raises(CheckpointError, match="sets learn_initial_query"):
        Detector.load("odd", odd)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "set HF_HOME"),
        (OSError(30, "Read-only file system"), "set HF_HOME"),
        (OSError(28, "No space left on device"), "disk is full"),
        (NotADirectoryError(20, "Not a directory"), "set HF_HOME"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached"),
    ],
)
def test_where_the_disk_is_the_reason_the_hub_is_not_blamed(error, words):
    reason = _reason("owner/name", error, 10.0)
    assert words in reason
    assert ("cannot be reached" in reason) == (words == "cannot be reached")
