"""From a picture to predictions: one loaded RT-DETR on one device."""

import copy
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForObjectDetection, PreTrainedModel, RTDetrImageProcessorPil
from transformers.utils import logging as transformers_logging

from . import backbone as _backbone  # noqa: F401  (registers the bundled checkpoint's backbone)
from .errors import BadInput, CheckpointError
from .fuse import fuse
from .predictions import Predictions, Timing
from .turns import Turns

# The page and the log say what is going on; bars on the console would only break their lines.
transformers_logging.disable_progress_bar()

# One pass at a time, whatever the model: two at once on one device only slow each other down.
_TURNS = Turns()

log = logging.getLogger(__name__)

MODEL_TYPES = ("rt_detr", "rt_detr_v2")


def best_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def truncate(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """A view of an RT-DETR that stops after `depth` decoder layers; weights are shared, not copied.

    The original is left as it is, so passes of several depths may run at the same time.
    """
    decoder = model.model.decoder
    cut = _with_children(decoder, layers=nn.ModuleList(list(decoder.layers)[:depth]))
    return _with_children(model, model=_with_children(model.model, decoder=cut))


def _with_children(module: Any, **children: nn.Module) -> Any:
    clone = copy.copy(module)
    clone._modules = {**module._modules, **children}
    return clone


class Detector:
    """An RT-DETR or RT-DETRv2 that detects; safe to share between threads."""

    def __init__(
        self,
        checkpoint: str,
        model: PreTrainedModel,
        processor: RTDetrImageProcessorPil,
        device: torch.device | None = None,
    ):
        self.checkpoint = checkpoint
        self.processor = processor
        self.device = device or best_device()
        self.model = fuse(model.eval()).to(self.device)
        if self.device.type == "cuda" and _half_agrees(self.model, self._size()):
            self.model = self.model.half()
        self.depth: int = model.config.decoder_layers
        id2label: dict[Any, str] = model.config.id2label or {}
        self.class_names = tuple(id2label[i] for i in range(len(id2label)))
        self._views = [truncate(self.model, k) for k in range(1, self.depth + 1)]

    @classmethod
    def load(cls, checkpoint: str, folder: Path, device: torch.device | None = None) -> "Detector":
        """Load a folder in the hub's layout. Raises CheckpointError where it holds no RT-DETR."""
        try:
            kind = json.loads((folder / "config.json").read_text())["model_type"]
            if kind not in MODEL_TYPES:
                raise CheckpointError(
                    f"{checkpoint} is a {str(kind)[:40]} model, not an RT-DETR. "
                    "Choose an RT-DETR or RT-DETRv2 checkpoint."
                )
            model, report = AutoModelForObjectDetection.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            # transformers would fill these with random numbers.
            if absent := set(report["missing_keys"]) | set(report["mismatched_keys"]):
                raise ValueError(f"no weights for {sorted(map(str, absent))[:3]}")
            processor = RTDetrImageProcessorPil.from_pretrained(folder, local_files_only=True)
            return cls(checkpoint, model, processor, device)
        except CheckpointError:
            raise
        except Exception as error:
            # Whatever a damaged or foreign file makes the loaders raise: there is no end of kinds.
            log.warning("%s could not be loaded: %r", checkpoint, error)
            raise CheckpointError(
                f"{checkpoint} could not be loaded: its files are damaged or incomplete. "
                "Choose another checkpoint, or delete its files and download it again."
            ) from error

    @property
    def memory_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    @property
    def precision(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    def detect(self, image: Image.Image, decoder_layers: int | None = None) -> Predictions:
        """Detect in one RGB picture, running `decoder_layers` layers (all of them by default)."""
        return self.detect_batch([image], decoder_layers)[0]

    def detect_batch(
        self, images: Sequence[Image.Image], decoder_layers: int | None = None
    ) -> list[Predictions]:
        """Detect in RGB pictures of any sizes, in one pass; times are shared out evenly."""
        depth = self.check_depth(decoder_layers)
        with _TURNS, torch.inference_mode():
            began = time.perf_counter()
            pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
            pixels = pixels.to(self.device, self.model.dtype)
            ready = time.perf_counter()
            output = self._views[depth - 1](pixel_values=pixels)
            if self.device.type in ("cuda", "mps"):
                getattr(torch, self.device.type).synchronize()
            ran = time.perf_counter()
            candidates = _candidates(
                output.intermediate_logits.float(), output.intermediate_reference_points.float()
            )
            scores, labels, queries, boxes = (part.cpu().numpy() for part in candidates)
            done = time.perf_counter()
        share = 1000 / len(images)
        timing = Timing((ready - began) * share, (ran - ready) * share, (done - ran) * share)
        return [
            Predictions(
                checkpoint=self.checkpoint,
                class_names=self.class_names,
                width=image.width,
                height=image.height,
                scores=scores[i],
                labels=labels[i],
                queries=queries[i],
                boxes=boxes[i] * np.array([image.width, image.height] * 2, dtype=np.float32),
                timing=timing,
            )
            for i, image in enumerate(images)
        ]

    def check_depth(self, decoder_layers: int | None) -> int:
        """The depth to run. Raises BadInput unless it is a whole number from 1 to our depth."""
        if decoder_layers is None:
            return self.depth
        whole = isinstance(decoder_layers, int) and not isinstance(decoder_layers, bool)
        if not whole or not 1 <= decoder_layers <= self.depth:
            raise BadInput(
                f"This checkpoint has {self.depth} decoder layers: "
                f"choose a whole number from 1 to {self.depth}."
            )
        return decoder_layers

    def _size(self) -> tuple[int, int]:
        return self.processor.size["height"], self.processor.size["width"]


def _candidates(
    logits: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rank every (query, class) pair of every layer, as transformers' post-processing does.

    Takes logits [batch, layers, queries, classes] and boxes [batch, layers, queries, 4] (centre,
    size; 0 to 1). Gives scores, labels and queries [batch, layers, queries] and boxes
    [batch, layers, queries, 4] (corners; 0 to 1), best first.
    """
    classes, count = logits.shape[-1], logits.shape[-2]
    scores, index = logits.sigmoid().flatten(2).topk(count, dim=-1)
    queries = index // classes
    centre, size = boxes.split(2, dim=-1)
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
    corners = corners.gather(2, queries.unsqueeze(-1).expand(-1, -1, -1, 4))
    return scores, index % classes, queries, corners


@torch.inference_mode()
def _half_agrees(model: PreTrainedModel, size: tuple[int, int]) -> bool:
    """Whether half precision gives this model's scores to within 0.01 on a fixed noise picture."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, *size, generator=generator)
    try:
        pixels = noise.to(model.device)
        full = model(pixel_values=pixels).logits.sigmoid().amax(-1).sort().values
        half_model = copy.deepcopy(model).half()
        half = half_model(pixel_values=pixels.half()).logits.float().sigmoid().amax(-1)
    except RuntimeError:
        return False
    return bool((half.sort().values - full).abs().max() < 0.01)
