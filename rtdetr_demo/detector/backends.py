"""What runs the network: the interface of a runtime, and PyTorch.

`openvino` and `cuda_graphs` hold the other runtimes. All give the same: logits
[batch, layers, queries, classes] and boxes [batch, layers, queries, 4] in float32, of every layer
up to `depth` or of the last one alone. PyTorch serves from the start; the others need time to
prepare, or special hardware, and are used once they have proved to agree.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor, nn

from .network import StagedRTDetr

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5 / 640
"""How far another runtime may be from PyTorch: in score, and in box as a share of the picture."""


class Runtime(Protocol):
    """Runs the stages of one detector, for one number of queries; see this module."""

    name: str

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        """Run `depth` decoder layers on pixels [batch, 3, height, width].

        Gives logits and boxes of every layer where `every`, else of the last one alone.
        """

    def steps(self, pixels: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
        """The stages of a full pass by name, each to be called in its turn."""


class TorchBackend:
    """PyTorch, operation by operation, on any device."""

    name = "PyTorch"

    def __init__(self, stages: StagedRTDetr):
        self.stages = stages

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        logits, boxes = self.stages(pixels, depth, every)
        return logits.float(), boxes.float()

    def release(self) -> None:
        """Free what is kept to be faster next time."""

    def steps(self, pixels: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
        stages, state = self.stages, tuple[Tensor, ...]()
        encode = stages.encode

        def run_encode() -> None:
            nonlocal state
            state = encode(pixels)

        def run_layer(layer: nn.Module, head: nn.Module) -> None:
            nonlocal state
            queries, boxes = layer(*state)
            head(queries)
            state = (queries, boxes, *state[2:])

        yield "backbone", lambda: encode.backbone(pixels)
        yield "encoder", run_encode
        for number, (layer, head) in enumerate(zip(stages.layers, stages.heads, strict=True), 1):
            yield f"decoder layer {number}", functools.partial(run_layer, layer, head)
