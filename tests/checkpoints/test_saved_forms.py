"""Checkpoints as people's trainers leave them: what transformers runs runs here with the same
result, and for the rest one sentence names the file and the reason."""

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil

from rtdetr_demo.checkpoints.files import check_bounds
from rtdetr_demo.checkpoints.hub import Download, local_folder, why_unreachable
from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import BadInput, CheckpointError
from rtdetr_demo.evaluation.latency import measure_latency
from tests.support.models import random_model, small
from tests.support.paths import EXAMPLES
from tests.support.standin import HubStandIn

CPU = torch.device("cpu")
Change = Callable[[Path], None]


def edited(file: str, **changes: Any) -> Change:
    """Change settings in a file of JSON; None removes one."""

    def change(folder: Path) -> None:
        content = {**json.loads((folder / file).read_text(encoding="utf-8")), **changes}
        content = {name: value for name, value in content.items() if value is not None}
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return change


def config(**changes: Any) -> Change:
    return edited("config.json", **changes)


def processor(**changes: Any) -> Change:
    return edited("preprocessor_config.json", **changes)


def trained(folder: Path, size: dict[str, int] | None = None, **settings: Any) -> Path:
    """A small checkpoint with five classes."""
    settings = {"decoder_layers": 2, "num_queries": 40, **settings}
    model = random_model(**small(**settings))
    model.save_pretrained(folder)
    RTDetrImageProcessorPil(size=size or {"height": 96, "width": 96}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("usual"))


def copy_of(usual: Path, tmp_path: Path, change: Change) -> Path:
    folder = shutil.copytree(usual, tmp_path / "changed")
    change(folder)
    return folder


def assert_as_transformers(folder: Path, image: Image.Image) -> Detector:
    """Scores to 0.001 and boxes to half a pixel, in order of rank."""
    model = AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
    prepare = RTDetrImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        output = model(**prepare(image, return_tensors="pt"))
    [expected] = prepare.post_process_object_detection(output, 0.0, [(image.height, image.width)])
    detector = Detector.load("changed", folder, CPU)
    actual = detector.detect(image)
    np.testing.assert_allclose(actual.scores[-1], expected["scores"], atol=1e-3)
    for score, label, box in zip(*(expected[k].numpy() for k in expected), strict=True):
        alike = (actual.labels[-1] == label) & (np.abs(actual.scores[-1] - score) < 1e-3)
        assert np.abs(actual.boxes[-1][alike] - box).max(-1).min() < 0.5
    return detector


@pytest.fixture(scope="module")
def street() -> Image.Image:
    with Image.open(EXAMPLES / "street.jpg") as photo:
        return photo.convert("RGB")


# --- What transformers runs ----------------------------------------------------------------------


def test_anchors_need_not_be_square(tmp_path: Path, street):
    size = {"height": 64, "width": 128}
    folder = trained(tmp_path, size, anchor_image_size=[64, 128], num_queries=30)
    assert assert_as_transformers(folder, street).size == (64, 128)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (dict(zip("12345", "abcde", strict=True)), ("LABEL_0", "a", "b", "c", "d")),
        (dict(zip("02378", "abcde", strict=True)), ("a", "LABEL_1", "b", "c", "LABEL_4")),
        (None, ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")),
    ],
)
def test_names_of_classes_may_begin_at_one_have_gaps_or_lack(
    usual: Path, tmp_path: Path, street, labels, names
):
    change = config(id2label=labels, label2id=None, num_labels=None if labels else 5)
    folder = copy_of(usual, tmp_path, change)
    assert assert_as_transformers(folder, street).class_names == names


@pytest.mark.parametrize(
    "change",
    [
        processor(size={"shortest_edge": 96, "longest_edge": 192}),
        processor(size={"max_height": 96, "max_width": 192}),
        processor(do_pad=True, pad_size={"height": 128, "width": 192}),
        processor(do_resize=False),
        processor(do_rescale=False, do_normalize=True, resample=3),
    ],
)
def test_processors_may_keep_proportions_pad_or_not_resize(
    usual: Path, tmp_path: Path, street, change
):
    image = street.resize((192, 96))
    detector = assert_as_transformers(copy_of(usual, tmp_path, change), image)
    together = detector.detect_batch([image, street.resize((128, 128)), image])
    assert [one.width for one in together] == [192, 128, 192]
    np.testing.assert_allclose(together[2].scores, detector.detect(image).scores, atol=1e-5)


def test_a_picture_whose_proportions_do_not_fit_is_a_sentence(usual: Path, tmp_path: Path, street):
    change = processor(size={"shortest_edge": 96, "longest_edge": 192})
    detector = Detector.load("kept", copy_of(usual, tmp_path, change), CPU)
    image = street.resize((200, 150))
    with pytest.raises(BadInput, match=r"128 x 96 pixels|multiples of 32") as refusal:
        detector.detect(image.resize((200, 130)))
    assert "preprocessor_config.json" in str(refusal.value)
    assert detector.detect(image, size=160).layers == 2
    assert "preprocess" in measure_latency(detector, image, rounds=3).stages_ms


def test_the_least_input_size_has_a_cell_for_each_query(tmp_path: Path, street):
    size = {"height": 192, "width": 192}
    detector = assert_as_transformers(trained(tmp_path, size, num_queries=600), street)
    least, _ = detector.size_range
    assert least == 192  # 160 has 25 + 100 + 400
    assert len(detector.detect(street, size=least).scores[-1]) == 600
    with pytest.raises(BadInput, match="from 192"):
        detector.detect(street, size=160)


# --- What cannot run -----------------------------------------------------------------------------


def header_of_many_tensors(folder: Path) -> None:
    tensor = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(f'"t{i}":{tensor}' for i in range(300_000)) + "}").encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)


def deep_json(file: str, depth: int) -> Change:
    return lambda folder: (
        (folder / file).write_text('{"a":' * depth + "1" + "}" * depth, encoding="utf-8") and None
    )


def without_weights_of_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "decoder.layers.1." not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (config(use_timm_backbone=True, backbone="resnet50d"), "takes resnet50d .*timm"),
        (config(backbone_config={"model_type": "timm_backbone"}), "config.json takes .*timm"),
        (config(learn_initial_query=True), "config.json sets learn_initial_query"),
        (config(id2label={"0": "x" * 10_000_000}), "config.json is larger than 8 MB"),
        (config(id2label={"0": "x" * 1_000_000}), "label 0 in its config.json has more than 200"),
        (config(id2label={"zero": "a"}), "id2label in its config.json has a key"),
        (config(id2label=None), r"config.json and its weights differ \(.*id2label"),
        (config(anchor_image_size=[64, 128]), "config.json is 64 x 128"),
        (config(anchor_image_size=96), "anchor_image_size in its config.json is not"),
        (config(num_queries=700), "189 cells, and its config.json wants 700 queries"),
        (config(model_type=None), "config.json names no model_type"),
        (deep_json("config.json", 60), "config.json is nested more than 32"),
        (deep_json("config.json", 100_000), "config.json is nested more than 32"),
        (deep_json("preprocessor_config.json", 60), "preprocessor_config.json is nested"),
        (processor(size={"height": 0, "width": 0}), "preprocessor_config.json has a size of 0"),
        (processor(size={"height": 1.5, "width": 9}), "preprocessor_config.json has a size of 1.5"),
        (processor(size={"shortest_edge": 96}), "preprocessor_config.json has a size without"),
        (processor(do_pad=True, pad_size={"height": 32, "width": 32}), "no picture can be"),
        (processor(size={"height": 100, "width": 96}), "100 x 96 pixels .* multiples of 32"),
        (header_of_many_tensors, r"model.safetensors has a header of \d+ MB"),
        (without_weights_of_a_layer, "weights are incomplete, model.decoder.layers.1"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    ],
)  # fmt: skip
def test_one_sentence_names_the_file_and_the_reason(usual: Path, tmp_path: Path, change, words):
    folder, began = copy_of(usual, tmp_path, change), time.monotonic()
    with pytest.raises(CheckpointError, match=words) as refusal:
        Detector.load("changed", folder, CPU)
    assert len(str(refusal.value)) < 400
    assert time.monotonic() - began < 10


def test_files_that_a_visitor_names_are_checked_before_anything_is_built(usual: Path, tmp_path):
    folder = copy_of(usual, tmp_path, deep_json("config.json", 100_000))
    with pytest.raises(CheckpointError, match="nested more than 32"):
        check_bounds("changed", folder)


def binary_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "processor.save_"),
        (binary_only, r"has only pytorch_model.bin.*Convert it .*save_pretrained"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    ],
)  # fmt: skip
def test_a_folder_and_a_repository_that_lack_a_file_say_which(
    usual: Path, tmp_path: Path, monkeypatch, change, words
):
    folder = copy_of(usual, tmp_path, change)
    assert local_folder(str(folder)) is None
    with pytest.raises(CheckpointError, match=words):
        load(str(folder))
    assert "neither a local folder" not in str(why_unreachable(str(folder)))
    with HubStandIn({"owner/changed": folder}) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        with pytest.raises(CheckpointError, match=words):
            Download("owner/changed").wait(30)
