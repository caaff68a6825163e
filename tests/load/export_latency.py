"""Latency of exports beside the cut pass: `.venv/bin/python tests/load/export_latency.py`.

Network and ranking of one picture, from prepared pixels to detections. The passes of one depth take
turns in one run; the low quantile of the rounds is printed, and how far the rounds lie apart.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import openvino
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import onnxruntime
from transformers import AutoModelForObjectDetection

from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.detector.parity import bundled_photograph
from rtdetr_demo.evaluation.latency import low, spread, take_turns, timed
from rtdetr_demo.export.exporter import export
from rtdetr_demo.export.settings import ONNX, OPENVINO, TRANSFORMERS, check_cut
from rtdetr_demo.predictions import Timing


def runners(folder: Path, pixels: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What runs each export of `folder` on pixels."""
    threads = torch.get_num_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / ONNX / "model.onnx", options)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    network = openvino.compile_model(folder / OPENVINO / "model.xml", "CPU", hints)
    model = AutoModelForObjectDetection.from_pretrained(folder / TRANSFORMERS).eval()

    def run_transformers() -> None:
        with torch.inference_mode():
            model(pixel_values=pixels)

    return {
        TRANSFORMERS: run_transformers,
        ONNX: lambda: session.run(None, {"pixels": pixels.numpy()}),
        OPENVINO: lambda: network(pixels.numpy()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 4, 6])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    detector = load(options.checkpoint, device=torch.device("cpu"))
    photo = bundled_photograph()
    pixels = detector.prepare([photo]).contiguous()
    untimed = Timing(0.0, 0.0, 0.0)
    print("| layers | pass | ms | spread |\n|---|---|---|---|")
    for layers in options.layers:

        def cut_pass(layers: int = layers) -> None:
            logits, boxes = detector.run(pixels, layers, False)
            detector.predictions(logits, boxes, [photo.size], untimed, layers, False)

        with tempfile.TemporaryDirectory() as folder:
            cut = check_cut(detector, layers, None, None)
            for form in (TRANSFORMERS, ONNX, OPENVINO):
                export(detector, Path(folder) / form, form, cut)
            passes = {"cut pass": cut_pass, **runners(Path(folder), pixels)}
            times = take_turns([timed(name, run) for name, run in passes.items()], options.rounds)
        for name, taken in times.items():
            print(f"| {layers} | {name} | {low(taken):.1f} | {spread(taken):.1f} |", flush=True)


if __name__ == "__main__":
    main()
