"""Whether our stages say what transformers' own forward says: asked when a model is loaded."""

import logging
from typing import Any

import torch

from ..errors import CheckpointError
from .network import StagedRTDetr

SMALLEST = 128
TOLERANCE = 2e-3

_UNKNOWN = (
    "{} works in a way that this demo does not know, so its layers could not be shown truthfully. "
    "Choose an RT-DETR or RT-DETRv2 checkpoint with the usual settings."
)

log = logging.getLogger(__name__)


@torch.inference_mode()
def check_parity(checkpoint: str, model: Any) -> None:
    """Compare full passes of a model on the CPU on one small picture of noise.

    Raises CheckpointError where they differ: settings that no published checkpoint has, such as a
    learned initial query, change the forward pass in ways that the stages do not know.
    """
    side = _side(model.config)
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        output = model(pixel_values=pixels)
    except Exception as error:
        log.warning("%s: transformers' own forward fails: %r", checkpoint, error)
        raise CheckpointError(_UNKNOWN.format(checkpoint)) from None
    stages = StagedRTDetr(model, model.config.num_queries).eval()
    logits, boxes = stages(pixels, len(stages.layers), False)
    if (
        output.logits.shape != logits[:, 0].shape
        or _gap(output.logits.sigmoid().amax(-1), logits[:, 0].sigmoid().amax(-1)) > TOLERANCE
        or _gap(output.pred_boxes.flatten(1), boxes[:, 0].flatten(1)) > TOLERANCE
    ):
        raise CheckpointError(_UNKNOWN.format(checkpoint))


def _side(config: Any) -> int:
    """The smallest square with as many positions as there are queries."""
    if config.anchor_image_size is not None:
        return int(config.anchor_image_size[0])
    side = SMALLEST
    while sum((side // stride) ** 2 for stride in config.feat_strides) < config.num_queries:
        side += 32
    return side


def _gap(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    """How far sorted values lie apart, but for the few that near ties of the selection change."""
    return float((theirs.sort().values - ours.sort().values).abs().quantile(0.95))
