"""Whether one way of running a checkpoint says what another says, query by query.

When a checkpoint is loaded, transformers' own forward pass over a bundled photograph is the
reference (`reference_pass`). The stages must equal it (`check_stages`), and a GPU, in the precision
that will serve, must come close to it (`place`). Other runtimes use `disagreement`.
"""

import contextlib
import copy
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..errors import CheckpointError
from .devices import explain, free_memory
from .network import StagedRTDetr, fits_pyramid, to_half, token_count
from .preprocess import Preprocess

log = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """How far scores (0 to 1), and box edges in pixels of a picture `PICTURE` wide, may differ."""

    score: float
    pixels: float


QUICK = 320
"""The side of the input of a comparison where the size does not matter."""

PICTURE = 1920
EXACT = Bounds(1e-3, 0.5)
"""For the same arithmetic in another order."""
HALF = Bounds(0.02, 4.0)
"""For float16, and for the TF32 that GPUs use for float32."""
BFLOAT16 = Bounds(0.05, 10.0)
"""For bfloat16, which has 3 bits less than float16."""

SHOWN = 0.3
BEST = 10
"""Where arithmetic is coarser, boxes are compared of queries that a visitor may see: those that
score above `SHOWN`, and the `BEST` of each layer. The boxes of others are unstable."""

_DISCRETE_SHARE = 0.9
"""Discrete sampling takes the other of two cells where rounding differs: so many queries agree."""


class Reference(NamedTuple):
    """One pass over one picture, on the CPU in float32."""

    pixels: Tensor
    """[1, 3, height, width], as the checkpoint's processor prepares them."""
    token_scores: Tensor
    """[1, tokens]: the encoder's score of the best class of each token."""
    chosen: Tensor
    """[1, queries]: the tokens that became queries."""
    logits: Tensor
    """[layers, queries, classes]"""
    boxes: Tensor
    """[layers, queries, 4]: centre and size, 0 to 1."""


@functools.cache
def bundled_photograph() -> Image.Image:
    """A street with people and cars."""
    package = Path(__file__).parents[1]
    folders = (package / "examples", package.parent / "examples")
    with Image.open(next(folder for folder in folders if folder.is_dir()) / "street.jpg") as photo:
        return photo.convert("RGB")


def reference_of(checkpoint: str, model: Any, processor: Any, preprocess: Preprocess) -> Reference:
    """`reference_pass` over the bundled photograph, at the size that will serve.

    Where only time depends on the size, it is smaller: a model should be ready soon.
    """
    photo, size = bundled_photograph(), preprocess.size
    if preprocess.varies:
        return reference_pass(checkpoint, model, processor, photo.resize(size[::-1]))
    config = model.config
    if (
        preprocess.settings() is not None
        and config.anchor_image_size is None
        and config.backbone_config.model_type == "rt_detr_resnet"
        and fits_pyramid(config, *size)
        and min(size) > QUICK
        and token_count(config, QUICK, QUICK) >= config.num_queries
    ):
        return reference_pass(checkpoint, model, processor, photo, QUICK)
    return reference_pass(checkpoint, model, processor, photo)


@torch.inference_mode()
def reference_pass(
    checkpoint: str,
    model: Any,
    processor: Any,
    image: Image.Image,
    side: int | None = None,
) -> Reference:
    """What transformers' model and processor make of a picture. `model` is on the CPU in float32;
    `side` is that of a square input in place of the processor's own size.

    Raises CheckpointError, with the reason, where they cannot run.
    """
    options = {} if side is None else {"size": {"height": side, "width": side}}
    try:
        pixels = processor(images=[image], return_tensors="pt", **options)["pixel_values"].float()
    except Exception as error:
        log.warning("%s: the image processor fails: %r", checkpoint, error)
        raise CheckpointError(
            f"{checkpoint} cannot run: no picture can be prepared as its preprocessor_config.json "
            "says."
        ) from None
    try:
        output = model(pixel_values=pixels)
    except Exception as error:
        log.warning("%s: transformers' own forward pass fails: %r", checkpoint, error)
        height, width = pixels.shape[-2:]
        raise CheckpointError(
            f"{checkpoint} cannot run: {_obstacle(model.config, height, width)}."
        ) from None
    tokens = output.enc_outputs_class.amax(-1)
    chosen = tokens.topk(model.config.num_queries).indices
    return Reference(
        pixels,
        tokens.sigmoid(),
        chosen,
        output.intermediate_logits[0],
        output.intermediate_reference_points[0],
    )


def _obstacle(config: Any, height: int, width: int) -> str:
    """Why transformers' forward pass fails for an input of this size."""
    size = f"{height} x {width} pixels (height x width)"
    anchors = config.anchor_image_size
    if anchors is not None and tuple(anchors) != (height, width):
        return (
            f"its preprocessor_config.json makes inputs of {size}, but anchor_image_size in its "
            f"config.json is {anchors[0]} x {anchors[1]}"
        )
    if not fits_pyramid(config, height, width):
        return (
            f"its preprocessor_config.json makes inputs of {size}, and the network needs multiples "
            f"of {max(config.feat_strides)}"
        )
    if (tokens := token_count(config, height, width)) < config.num_queries:
        return (
            f"its preprocessor_config.json makes inputs of {size}, which have {tokens} cells, and "
            f"its config.json wants {config.num_queries} queries"
        )
    return f"transformers' own forward pass fails for inputs of {size}; its config.json is at fault"


@torch.inference_mode()
def run_stages(stages: StagedRTDetr, reference: Reference) -> Reference:
    """The same pass in stages, on their device and in their precision, for the same queries."""
    weight = stages.encode.score_head.weight
    pixels = reference.pixels.to(weight.device, weight.dtype)
    pixels = pixels.to(memory_format=torch.channels_last)
    features = stages.encode.project(pixels)
    constants = stages.encode.constants(features)
    maps = stages.encode.decoder_maps(stages.encode.encode_maps(features, constants))
    chosen = reference.chosen.to(weight.device)
    tokens, _, queries, boxes = stages.encode.select(maps, constants, chosen)
    logits_by_layer, boxes_by_layer = [], []
    for layer, head in zip(stages.layers, stages.heads, strict=True):
        queries, boxes = layer(queries, boxes, *maps)
        logits_by_layer.append(head(queries)[0])
        boxes_by_layer.append(boxes[0])
    return Reference(
        reference.pixels,
        tokens.amax(-1).float().sigmoid().cpu(),
        reference.chosen,
        torch.stack(logits_by_layer).float().cpu(),
        torch.stack(boxes_by_layer).float().cpu(),
    )


def disagreement(
    logits: Tensor,
    boxes: Tensor,
    expected_logits: Tensor,
    expected_boxes: Tensor,
    bounds: Bounds,
    share: float = 1.0,
) -> str | None:
    """Where results of the same queries lie further apart than `bounds`, a phrase that says so.

    Takes logits [layers, queries, classes] and boxes [layers, queries, 4] (centre, size; 0 to 1) on
    the CPU. `share`: how many of the queries must lie within. Not-a-number never does.
    """
    if logits.shape != expected_logits.shape or boxes.shape != expected_boxes.shape:
        return f"shapes differ: {tuple(logits.shape)} and {tuple(expected_logits.shape)}"
    scores, expected = logits.float().sigmoid(), expected_logits.float().sigmoid()
    score_gaps = (scores - expected).abs().amax(-1)
    # An edge moves with the centre and with half of the size.
    centre, size = (boxes.float() - expected_boxes.float()).abs().split(2, -1)
    pixel_gaps = PICTURE * (centre + size / 2).amax(-1)
    best = expected.amax(-1)
    if bounds != EXACT:
        least = best.topk(min(BEST, best.shape[-1])).values[..., -1:].clamp(max=SHOWN)
        pixel_gaps = torch.where(best >= least, pixel_gaps, torch.zeros_like(pixel_gaps))
    for name, gaps, bound in (
        ("scores differ by {:.2g}", score_gaps, bounds.score),
        (f"boxes differ by {{:.2g}} pixels of {PICTURE}", pixel_gaps, bounds.pixels),
    ):
        within = (gaps <= bound).float().mean(-1)
        if not bool((within >= share - 1e-6).all()):
            layer = int((within < share - 1e-6).nonzero()[0]) + 1
            return f"{name.format(float(gaps[layer - 1].max()))} after layer {layer}"
    return None


def _compare(stages: StagedRTDetr, reference: Reference, bounds: Bounds) -> str | None:
    actual = run_stages(stages, reference)
    if actual.token_scores.shape != reference.token_scores.shape:
        return "the encoder's maps have other shapes"
    gap = float((actual.token_scores - reference.token_scores).abs().max())
    if not gap <= bounds.score:
        return f"the encoder's scores differ by {gap:.2g}"
    layers: Any = stages.layers
    discrete = any(layer.attention.discrete for layer in layers)
    return disagreement(
        actual.logits,
        actual.boxes,
        reference.logits,
        reference.boxes,
        bounds,
        _DISCRETE_SHARE if discrete else 1.0,
    )


def check_stages(checkpoint: str, model: Any, reference: Reference) -> None:
    """Raises CheckpointError unless the stages of a model on the CPU equal the reference."""
    stages = StagedRTDetr(model, model.config.num_queries).eval()
    if reason := _compare(stages, reference, EXACT):
        log.warning("%s: the stages disagree with transformers: %s", checkpoint, reason)
        raise CheckpointError(
            f"{checkpoint} works in a way that this demo does not know, so its layers could not be "
            "shown truthfully. Choose an RT-DETR or RT-DETRv2 checkpoint with the usual settings."
        )


def place(model: Any, device: torch.device, reference: Reference) -> tuple[Any, str]:
    """A float32 model on the CPU for a device: itself, or a copy there (`copy_to`).

    Where the device fails or disagrees with the reference, the model itself, and the reason.
    """
    return (model, "") if device.type == "cpu" else copy_to(device, model, reference)


def copy_to(device: torch.device, model: Any, reference: Reference) -> tuple[Any, str]:
    """As `place`: a copy in half precision where that agrees on this device, else in float32."""
    reason = ""
    preparations: tuple[Callable[[Any], Any], ...] = (to_half, lambda copied: copied)
    for prepare in preparations:
        copied, reason = _try_copy(device, model, reference, prepare)
        if not reason:
            return copied, ""
        with contextlib.suppress(RuntimeError):  # a GPU that failed may fail at this, too
            free_memory(device)
    return model, reason


def _try_copy(
    device: torch.device, model: Any, reference: Reference, prepare: Callable[[Any], Any]
) -> tuple[Any, str]:
    """A prepared copy on the device, or None and why it cannot serve."""
    try:
        copied = prepare(copy.deepcopy(model)).to(device)
        copied = copied.to(memory_format=torch.channels_last)
        stages = StagedRTDetr(copied, model.config.num_queries).eval()
        difference = _compare(stages, reference, HALF)
    except Exception as error:
        # Drivers fail in many ways; none of them may keep a model from serving on the CPU.
        log.info("%s failed", device, exc_info=True)
        return None, explain(error, device)
    if difference is None:
        return copied, ""
    log.info("%s in %s disagrees with the CPU: %s", device, copied.dtype, difference)
    return None, f"{device} gives other results than the CPU ({difference})"
