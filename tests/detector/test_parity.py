"""A checkpoint is compared with transformers query by query, and half precision with float32."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.fusion import fuse
from rtdetr_demo.detector.network import DecoderLayer, StagedRTDetr, to_half
from rtdetr_demo.detector.parity import (
    EXACT,
    HALF,
    PICTURE,
    SHOWN,
    Reference,
    bundled_photograph,
    check_stages,
    copy_to,
    disagreement,
    reference_pass,
    run_stages,
)
from rtdetr_demo.detector.reading import read_checkpoint
from rtdetr_demo.errors import CheckpointError
from tests.support.models import save, small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundled() -> tuple[torch.nn.Module, Reference]:
    model, processor = read_checkpoint("bundled", BUNDLED_FOLDER)
    reference = reference_pass("bundled", model.eval(), processor, bundled_photograph())
    return fuse(model), reference


def test_the_photograph_shows_objects_at_every_layer(bundled):
    best = bundled[1].logits.sigmoid().amax(-1)
    assert ((best > SHOWN).sum(-1) >= 5).all()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r: r._replace(boxes=r.boxes[..., [1, 0, 3, 2]]), id="x and y swapped"),
        pytest.param(lambda r: r._replace(boxes=r.boxes + 1 / 1280), id="boxes off by a pixel"),
        pytest.param(lambda r: r._replace(logits=r.logits.flip(-2)), id="queries in another order"),
        pytest.param(lambda r: r._replace(logits=r.logits.flip(-1)), id="classes in another order"),
        pytest.param(lambda r: r._replace(boxes=r.boxes.flip(0)), id="layers in another order"),
        pytest.param(lambda r: r._replace(logits=r.logits * torch.nan), id="not a number"),
    ],
)
def test_stages_that_say_something_else_are_refused(bundled, change):
    model, reference = bundled
    check_stages("bundled", model, reference)
    with pytest.raises(CheckpointError, match="does not know"):
        check_stages("bundled", model, change(reference))


def test_half_precision_agrees_query_by_query_at_every_layer(bundled):
    model, reference = bundled
    half, problem = copy_to(CPU, model, reference)
    assert (half.dtype, problem) == (torch.float16, "")
    actual = run_stages(StagedRTDetr(half, model.config.num_queries).eval(), reference)
    sides = (actual.logits, actual.boxes, reference.logits, reference.boxes)
    assert disagreement(*sides, HALF) is None
    assert "after layer 1" in str(disagreement(*sides, EXACT))


def test_a_device_that_disagrees_in_every_precision_is_not_used(bundled):
    model, reference = bundled
    moved = reference._replace(boxes=reference.boxes + 2 * HALF.pixels / PICTURE)
    kept, problem = copy_to(CPU, model, moved)
    assert kept is model
    assert "cpu gives other results than the CPU (boxes differ by" in problem


def test_what_boxes_pass_through_stays_in_full_precision(bundled):
    model, _ = bundled
    half = StagedRTDetr(to_half(copy.deepcopy(model)), model.config.num_queries).eval()
    full = StagedRTDetr(model, model.config.num_queries).eval()
    for stages in (half, full):
        for layer in (stages.encode, *stages.layers):
            assert {p.dtype for p in layer.box_head.parameters()} == {torch.float32}
        assert stages.layers[0].position_head.layers[0].weight.dtype == torch.float32
    # The heads alone: a pixel at 1920 is 0.0005, the step of float16.
    boxes = torch.tensor([[[0.9, 0.9001, 0.5, 0.5]]])
    queries = torch.zeros(1, 1, model.config.d_model)
    layer: DecoderLayer = half.layers[0]
    with torch.inference_mode():
        gap = layer.position_head(boxes) - full.layers[0].position_head(boxes)
        maps = [torch.zeros(1, n, n, model.config.d_model).half() for n in (4, 2, 1)]
        for edge in (boxes, torch.ones_like(boxes), torch.zeros_like(boxes)):
            _, moved = layer(queries.half(), edge, *maps)
            _, expected = full.layers[0](queries, edge, *(one.float() for one in maps))
            assert moved.dtype == torch.float32
            assert moved.isfinite().all()
            assert PICTURE * (moved - expected).abs().max() < 0.5
    assert gap.abs().max() == 0


def test_a_checkpoint_with_discrete_sampling_loads(tmp_path: Path, noise):
    torch.manual_seed(0)
    settings = small(decoder_layers=2, decoder_method="discrete")
    folder = save(RTDetrV2ForObjectDetection(RTDetrV2Config(**settings)), tmp_path, 160)
    assert Detector.load("discrete", folder, CPU).detect(noise).layers == 2
