"""The cut network as one graph: pixels in; scores, labels and boxes out."""

import copy
import io
import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from ..detector.detector import Detector
from ..detector.network import StagedRTDetr
from ..detector.openvino_import import import_openvino
from ..detector.postprocess import topk_postprocess
from .settings import Cut

OPSET = 17
"""Version of ONNX's operators."""

INPUT = "pixels"
OUTPUTS = ("scores", "labels", "boxes")


class CutNetwork(nn.Module):
    """A network that stops at a depth and ranks what it detects."""

    def __init__(self, stages: StagedRTDetr, layers: int):
        super().__init__()
        self.stages = stages
        self.layers = layers

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect in pixels [batch, 3, height, width].

        Returns:
            Scores and labels [batch, queries] and boxes [batch, queries, 4] (corners, 0 to 1), best
            first.
        """
        logits, boxes = self.stages(pixels, self.layers, every=False)
        scores, labels, _, corners = topk_postprocess(logits, boxes)
        return scores.squeeze(1), labels.squeeze(1), corners.squeeze(1)


@torch.inference_mode(False)
@torch.no_grad()
def to_onnx(detector: Detector, cut: Cut, about: dict[str, Any]) -> onnx.ModelProto:
    """The cut network in float32, for any batch size.

    Args:
        detector: The whole network.
        cut: What remains of it.
        about: Written into the file's metadata, each value as JSON unless it is a text.
    """
    # Tracing swaps methods of modules for a while: not on those that serve.
    model = copy.deepcopy(detector.model).cpu().float()
    network = CutNetwork(StagedRTDetr(model, cut.queries), cut.layers).eval()
    pixels = torch.rand(2, 3, *detector.check_size(cut.size))
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: shapes but the batch are constants here
        torch.onnx.export(
            network,
            (pixels,),
            file,
            opset_version=OPSET,
            dynamo=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in (INPUT, *OUTPUTS)},
        )
    exported = onnx.load_from_string(file.getvalue())
    helper.set_model_props(
        exported,
        {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in about.items()
        },
    )
    onnx.checker.check_model(exported, full_check=True)
    return exported


def to_openvino(network: onnx.ModelProto, file: Path) -> None:
    """Convert a network to OpenVINO's form, its weights in float16, as `file` (ending in .xml) and
    a file of weights beside it."""
    openvino = import_openvino()

    # OpenVINO reads files, so that it can map large weights.
    whole = file.with_suffix(".onnx")
    whole.write_bytes(network.SerializeToString())
    try:
        converted = openvino.convert_model(whole)
        openvino.save_model(converted, file, compress_to_fp16=True)
    finally:
        whole.unlink()
