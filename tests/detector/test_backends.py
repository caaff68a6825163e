"""Fewer steps, the same answers: preparation, stages, and what runs them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoModelForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.backends import SCORE_TOLERANCE
from rtdetr_demo.detector.cuda_graphs import USES, CudaGraphBackend
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.network import StagedRTDetr
from rtdetr_demo.detector.preprocess import Preprocess
from rtdetr_demo.errors import BadInput
from tests.support.models import random_model, small
from tests.support.paths import EXAMPLES

CPU = torch.device("cpu")
PHOTOS = [EXAMPLES / name for name in ("street.jpg", "dogs.jpg")]


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return Detector.load("bundled", BUNDLED_FOLDER, CPU)


# --- Preparation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"do_normalize": True}, {"do_normalize": True, "image_mean": [0.5] * 3},
        {"do_resize": False, "do_pad": False}, {"do_rescale": False}, {"resample": 3},
    ],
)  # fmt: skip
def test_a_picture_is_prepared_as_the_processor_does_it(settings):
    processor = RTDetrImageProcessorPil(size={"height": 96, "width": 128}, **settings)
    image = Image.open(PHOTOS[0]).convert("RGB").resize((200, 150))
    expected = processor(images=[image], return_tensors="pt")["pixel_values"].float()
    ours = Preprocess(processor, CPU)([image], torch.float32)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_resizing_as_on_a_card_is_within_one_part_in_255():
    processor = RTDetrImageProcessorPil(size={"height": 160, "width": 160})
    prepare = Preprocess(processor, CPU)
    image = Image.open(PHOTOS[0]).convert("RGB")
    there = prepare._resized(torch.from_numpy(np.array(image)), 160, 160) / 255
    here = prepare([image], torch.float32).permute(0, 2, 3, 1)
    assert (there - here).abs().max() < 1.01 / 255


# --- Stages ---------------------------------------------------------------------------------------


def v1(**settings: object) -> nn.Module:
    return random_model(**small(**settings))


def v2(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    return RTDetrV2ForObjectDetection(RTDetrV2Config(**small(**settings))).eval()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: v1(), id="v1"),
        pytest.param(lambda: v1(num_feature_levels=4), id="four levels"),
        pytest.param(lambda: v2(), id="v2"),
        pytest.param(lambda: v2(decoder_n_points=2, decoder_offset_scale=0.7), id="v2, two points"),
        pytest.param(
            lambda: AutoModelForObjectDetection.from_pretrained(
                BUNDLED_FOLDER, dtype=torch.float32
            ),
            id="bundled",
        ),
    ],
)
@torch.inference_mode()
def test_stages_say_what_transformers_says_at_every_layer(model):
    model = model().eval()
    for layer in model.model.decoder.layers:  # a fresh model looks at the same few points
        nn.init.normal_(layer.encoder_attn.sampling_offsets.weight, 0, 0.05)
        nn.init.normal_(layer.encoder_attn.attention_weights.weight, 0, 0.05)
    pixels = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    expected = model(pixel_values=pixels)
    logits, boxes = StagedRTDetr(model, model.config.num_queries)(
        pixels, model.config.decoder_layers
    )
    torch.testing.assert_close(logits, expected.intermediate_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(boxes, expected.intermediate_reference_points, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_discrete_sampling_looks_at_the_same_pixels():
    model = v2(decoder_method="discrete")
    pixels = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    expected = model(pixel_values=pixels).intermediate_logits
    logits, _ = StagedRTDetr(model, 300)(pixels, 1)
    # Later layers may look to the other side where a point falls between two pixels.
    torch.testing.assert_close(logits[:, 0], expected[:, 0], atol=1e-4, rtol=1e-4)


def test_without_the_earlier_layers_the_last_is_the_same(bundled, photo):
    every, last = bundled.detect(photo, 4), bundled.detect(photo, 4, every_layer=False)
    assert every.layers == last.layers == 4
    assert len(last.scores) == 1
    assert every.select(4, 0.3) == last.select(4, 0.3)
    assert every.for_browser([4]) | {"timing_ms": 0} == last.for_browser([4]) | {"timing_ms": 0}


def test_fewer_queries_are_the_best_of_all(bundled, photo):
    few, all_of_them = bundled.detect(photo, queries=30), bundled.detect(photo)
    assert few.scores.shape == (6, 30)
    assert few.scores[-1, 0] == pytest.approx(all_of_them.scores[-1, 0], abs=0.1)


def test_another_input_size_finds_the_same_cat(bundled):
    cat = Image.open(EXAMPLES / "cat.jpg").convert("RGB")
    for size in (192, 320):
        found = bundled.detect(cat, size=size).select(6, 0.4)
        assert "cat" in {one.label for one in found}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"queries": 5}, "from 10 to 100"), ({"queries": 101}, "queries"),
        ({"queries": 1.5}, "queries"), ({"size": 100}, "multiple of 32"),
        ({"size": 64}, "multiple of 32"), ({"size": 6400}, "multiple of 32"),
        ({"size": True}, "multiple of 32"), ({"size": "256"}, "multiple of 32"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_a_sentence(bundled, photo, wrong, words):
    with pytest.raises(BadInput, match=words):
        bundled.detect(photo, **wrong)


# --- OpenVINO ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_openvino() -> Detector:
    detector = Detector.load("bundled", BUNDLED_FOLDER, CPU)
    assert detector.accelerate()
    assert detector.runtime().name == "OpenVINO"
    return detector


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_openvino_agrees_at_every_depth(bundled, on_openvino, path):
    image = Image.open(path).convert("RGB")
    for depth in range(1, 7):
        ours, theirs = (d.detect(image, depth, every_layer=False) for d in (bundled, on_openvino))
        expected, found = ours.select(depth, 0.3), theirs.select(depth, 0.3)
        assert len(found) == len(expected) > 0
        for one, other in zip(expected, found, strict=True):
            assert one.label == other.label
            assert one.score == pytest.approx(other.score, abs=SCORE_TOLERANCE)
            assert one[3:] == pytest.approx(other[3:], abs=0.5)


def test_openvino_runs_a_batch_and_every_layer(bundled, on_openvino):
    images = [Image.open(path).convert("RGB") for path in PHOTOS]
    for ours, theirs in zip(
        bundled.detect_batch(images), on_openvino.detect_batch(images), strict=True
    ):
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=SCORE_TOLERANCE)


def test_openvino_reports_nothing_to_its_makers(on_openvino):
    assert sys.modules["openvino_telemetry"] is None
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


@pytest.mark.load
def test_openvino_in_half_precision_finds_the_same(bundled):
    detector = Detector.load("bundled", BUNDLED_FOLDER, CPU)
    assert detector.accelerate(half=True)
    assert detector.runtime().name == "OpenVINO bf16"
    image = Image.open(PHOTOS[1]).convert("RGB")
    found, expected = (one.detect(image).select(6, 0.4) for one in (detector, bundled))
    assert [one.label for one in found] == [one.label for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.03)
        assert one[3:] == pytest.approx(other[3:], abs=5)


def test_a_shape_that_is_not_ready_runs_on_pytorch(on_openvino, photo):
    assert on_openvino.runtime(size=192).name == "PyTorch"
    assert on_openvino.detect(photo, size=192).layers == 6
    assert on_openvino.runtime().name == "OpenVINO"


def test_without_openvino_pytorch_serves(tiny: Path, noise, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    detector = Detector.load("tiny", tiny, CPU)
    assert not detector.accelerate()
    assert detector.detect(noise).layers == 6


@pytest.mark.parametrize("end", ["backbone", "encoder", 1, 6])
def test_a_part_of_a_pass_runs_on_each_runtime(bundled, on_openvino, photo, end):
    for detector in (bundled, on_openvino):
        detector.prefix(end)(detector.prepare([photo]))


# --- A card --------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_passes_agree_on_a_card(bundled):
    card = Detector.load("bundled", BUNDLED_FOLDER, torch.device("cuda"))
    for path in PHOTOS:
        image = Image.open(path).convert("RGB")
        for _ in range(USES + 2):  # plain, recorded, replayed
            found = card.detect(image, every_layer=False).select(6, 0.4)
        assert isinstance(card.runtime(), CudaGraphBackend)
        expected = bundled.detect(image).select(6, 0.4)
        assert [one.label for one in found] == [one.label for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.score == pytest.approx(other.score, abs=0.02)
            assert one[3:] == pytest.approx(other[3:], abs=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_pass_says_the_same_after_other_sizes_have_come_and_gone(photo):
    card = Detector.load("bundled", BUNDLED_FOLDER, torch.device("cuda"))
    for _ in range(USES + 2):
        before = card.detect(photo, every_layer=False)
    assert card.runtime().name == "CUDA graphs"
    for size in range(128, 641, 32):
        for _ in range(2):
            card.detect(photo, size=size)
    torch.cuda.empty_cache()
    after = card.detect(photo, every_layer=False)
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-3)
    np.testing.assert_allclose(after.boxes, before.boxes, atol=0.5)
