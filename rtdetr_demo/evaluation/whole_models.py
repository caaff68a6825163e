"""transformers' own model, converted as a whole: what the benchmark times the network against.

Each is the unmodified model of a checkpoint's folder with its last decoder layers removed, as one
graph with the last layer's logits and boxes: what somebody gets who converts the published model.
"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForObjectDetection

from ..detector.openvino_import import import_openvino
from ..errors import BadInput

OPENVINO, ONNXRUNTIME = "openvino", "onnxruntime"
NAMES = {OPENVINO: "OpenVINO", ONNXRUNTIME: "ONNX Runtime"}
"""What `prepare` can convert with, and how it is called in reports."""

OPSET = 17


def prepare(
    name: str, folder: Path, depth: int, size: tuple[int, int]
) -> Callable[[Tensor], object]:
    """Convert the model of a folder, cut at a depth; what is given runs it on one picture's pixels.

    Args:
        name: one of `NAMES`.
        folder: a checkpoint in the hub's layout.
        depth: decoder layers to keep.
        size: height and width of the input.

    Raises BadInput where the package is not installed.
    """
    try:
        import_openvino() if name == OPENVINO else __import__(name)
    except ImportError:
        raise BadInput(
            f"{NAMES[name]} is not installed: run pip install {name}, or leave out "
            f"--against {name}."
        ) from None
    model = AutoModelForObjectDetection.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, decoder_layers=depth
    )
    module, pixels = _LastLayer(model.eval()).eval(), torch.zeros(1, 3, *size)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: shapes are constants here, as they may
        return (_on_openvino if name == OPENVINO else _on_onnxruntime)(module, pixels)


def _on_openvino(module: nn.Module, pixels: Tensor) -> Callable[[Tensor], object]:
    import openvino

    traced = torch.jit.trace(module, (pixels,), check_trace=False, strict=False)
    shape = [list(pixels.shape)]
    converted = openvino.convert_model(traced, example_input=(pixels,), input=shape)
    hints: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = openvino.Core().compile_model(converted, "CPU", hints).create_infer_request()

    def run(pixels: Tensor) -> list[Any]:
        given = openvino.Tensor(pixels.contiguous().numpy(), shared_memory=True)
        request.set_input_tensor(0, given)
        request.infer()
        return [tensor.data.copy() for tensor in request.output_tensors]

    return run


def _on_onnxruntime(module: nn.Module, pixels: Tensor) -> Callable[[Tensor], object]:
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(
        module,
        (pixels,),
        file,  # type: ignore[arg-type]
        input_names=["pixels"],
        output_names=["logits", "boxes"],
        opset_version=OPSET,
        dynamo=False,
    )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        file.getvalue(), settings, providers=["CPUExecutionProvider"]
    )
    return lambda pixels: session.run(None, {"pixels": pixels.contiguous().numpy()})


class _LastLayer(nn.Module):
    """A model of transformers that gives a tuple: the last layer's logits and boxes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(pixel_values=pixels)
        return output.logits, output.pred_boxes
