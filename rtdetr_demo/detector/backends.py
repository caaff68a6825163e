"""What runs the network: the interface of a runtime, and PyTorch.

`openvino` and `cuda_graphs` hold the other runtimes. All give the same: logits
[batch, layers, queries, classes] and boxes [batch, layers, queries, 4] in float32, of every layer
up to `depth` or of the last one alone. PyTorch serves from the start; the others need time to
prepare, or special hardware, and are used once they have proved to agree.
"""

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor

from .network import StagedRTDetr

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5 / 640
"""How far another runtime may be from PyTorch: in score, and in box as a share of the picture."""

End = Literal["backbone", "encoder"] | int
"""Where the first part of a pass ends; a number is that of a decoder layer."""


class Runtime(Protocol):
    """Runs the stages of one detector, for one number of queries; see this module."""

    name: str

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        """Run `depth` decoder layers on pixels [batch, 3, height, width].

        Gives logits and boxes of every layer where `every`, else of the last one alone.
        """

    def prefix(self, end: End) -> Callable[[Tensor], object]:
        """Prepare the first part of a pass; what is given runs it on pixels.

        Args:
            end: "backbone", "encoder" (which includes the selection of queries), or the number of
                the decoder layer after which to stop.
        """


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

    def prefix(self, end: End) -> Callable[[Tensor], object]:
        if end == "backbone":
            return self.stages.encode.backbone
        if end == "encoder":
            return self.stages.encode
        return lambda pixels: self.run(pixels, end, False)
