"""Folding changes the number of steps, not what comes out."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForObjectDetection, RTDetrV2Config, RTDetrV2ForObjectDetection

import rtdetr_demo.detector.efficientnet_lite  # noqa: F401  (registers the bundled checkpoint's)
from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.fusion import fuse
from tests.support.models import small


def stirred(model: nn.Module) -> nn.Module:
    """The model with norms that do something: a fresh one's would fold to nothing."""
    torch.manual_seed(0)
    for name, value in [*model.named_buffers(), *model.named_parameters()]:
        last = name.rsplit(".", 1)[-1]
        if last == "running_mean":
            value.normal_(0, 0.1)
        elif last == "running_var":
            value.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(
    params=["bundled", "tiny", pytest.param("random_r50", marks=pytest.mark.slow), "v2"]
)
def model(request: pytest.FixtureRequest) -> nn.Module:
    if request.param == "v2":
        return stirred(RTDetrV2ForObjectDetection(RTDetrV2Config(**small(decoder_layers=3))))
    folder: Path = (
        BUNDLED_FOLDER if request.param == "bundled" else request.getfixturevalue(request.param)
    )
    model = AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32)
    return model.eval() if request.param == "bundled" else stirred(model)


@torch.inference_mode()
def test_a_folded_model_says_the_same_at_every_layer(model: nn.Module):
    pixels = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    folded = fuse(copy.deepcopy(model))
    before, after = model(pixel_values=pixels), folded(pixel_values=pixels)
    # Candidates of nearly equal rank may swap places: compare what each layer ranks highest.
    for old, new in zip(before.intermediate_logits[0], after.intermediate_logits[0], strict=True):
        old, new = (one.sigmoid().amax(-1).sort(descending=True).values for one in (old, new))
        torch.testing.assert_close(new, old, atol=1e-3, rtol=0)
    best = before.logits[0].sigmoid().amax(-1).argmax()
    gap = (after.pred_boxes[0] - before.pred_boxes[0][best]).abs().amax(-1).min()
    assert gap * 640 < 0.5


def test_nothing_is_left_to_fold(model: nn.Module):
    folded = fuse(copy.deepcopy(model))
    kinds = {type(module).__name__ for module in folded.modules()}
    assert not {kind for kind in kinds if "BatchNorm" in kind or "RepVgg" in kind}
