"""What is exported."""

from dataclasses import dataclass
from typing import Any

from ..detector.detector import Detector
from ..errors import Unprocessable

TRANSFORMERS, ONNX, OPENVINO = "transformers", "onnx", "openvino"
FORMATS = (TRANSFORMERS, ONNX, OPENVINO)


@dataclass(frozen=True)
class Cut:
    """A checkpoint with fewer layers, and maybe fewer queries and another input size.

    Attributes:
        layers: Decoder layers that remain.
        queries: Queries that the decoder refines.
        size: Side of the square input in pixels; None for the checkpoint's own input.
    """

    layers: int
    queries: int
    size: int | None = None


def check_cut(detector: Detector, layers: int | None, queries: int | None, size: int | None) -> Cut:
    """The cut of a checkpoint; None is what the checkpoint has. Raises BadInput where it cannot be
    cut so."""
    detector.check_size(size)
    return Cut(detector.check_depth(layers), detector.check_queries(queries), size)


def description(detector: Detector, cut: Cut) -> dict[str, Any]:
    """What a program needs to know to use the network, as JSON.

    `input_size` is height and width; a pixel from 0 to 255 becomes `pixel * scale + shift`, by
    channel (red, green, blue), after a bilinear resize that ignores proportions.

    Raises:
        Unprocessable: Only the checkpoint's own processor can prepare its pictures.
    """
    preprocess = detector.preprocess.settings()
    if preprocess is None:
        raise Unprocessable(
            f"{detector.checkpoint} prepares pictures in a way that needs its own processor. "
            "Choose the format transformers."
        )
    return {
        "checkpoint": detector.checkpoint,
        "decoder_layers": cut.layers,
        "queries": cut.queries,
        "input": "pixels: float32 [batch, 3, height, width], RGB, resized (bilinear, proportions "
        "ignored) to input_size; each value is (0 to 255) * scale + shift of its channel",
        "outputs": "scores: float32 [batch, queries], 0 to 1, best first; labels: int64 [batch, "
        "queries], indices of class_names; boxes: float32 [batch, queries, 4], xmin, ymin, xmax, "
        "ymax as shares of the picture, 0 to 1",
        "input_size": list(detector.check_size(cut.size)),
        "scale": preprocess["scale"],
        "shift": preprocess["shift"],
        "class_names": list(detector.class_names),
    }
