"""OpenVINO: the network compiled for a CPU."""

import copy
import functools
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Cancelled
from .backends import BOX_TOLERANCE, SCORE_TOLERANCE
from .network import StagedRTDetr

log = logging.getLogger(__name__)

HALF_TOLERANCE = 50
"""How many times further one in half precision may be, stage by stage."""


class OpenVinoBackend:
    """OpenVINO on a CPU; compiled for one size, one picture at a time.

    With `half` in bfloat16, where the processor has it: faster, and further from PyTorch (see
    `HALF_TOLERANCE`).

    Raises ImportError where OpenVINO is not installed, RuntimeError where it cannot compile the
    stages or disagrees with PyTorch, Cancelled where `stop` was set meanwhile.
    """

    def __init__(
        self,
        stages: StagedRTDetr,
        size: tuple[int, int],
        half: bool = False,
        stop: threading.Event | None = None,
    ):
        # It would report each conversion to its makers; without this module it does not.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        self.name = "OpenVINO bf16" if half else "OpenVINO"
        self._precision = "bf16" if half else "f32"
        self._tolerance = HALF_TOLERANCE if half else 1
        self._ov = openvino
        self._stop = stop or threading.Event()
        self._core = openvino.Core()
        began = time.perf_counter()
        # Tracing swaps methods of modules for a while: not on those that serve. Weights are shared.
        weights = {id(one): one for one in (*stages.parameters(), *stages.buffers())}
        stages = copy.deepcopy(stages, weights)
        pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer: shapes are constants here, as they may
            state = stages.encode(pixels)
            self._encode = self._compile(stages.encode, pixels)
            self._backbone: Any = None
            self._compile_backbone = lambda: self._compile(_Maps(stages.encode.backbone), pixels)
            self._layers = [self._compile(layer, *state) for layer in stages.layers]
            self._heads = [self._compile(head, state[0]) for head in stages.heads]
            self._check(stages, pixels)
        log.info("OpenVINO is ready after %.0f s", time.perf_counter() - began)

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        done = [self._run_one(pixels[i : i + 1], depth, every) for i in range(len(pixels))]
        logits, boxes = zip(*done, strict=True)
        return torch.cat(logits), torch.cat(boxes)

    def _run_one(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        state = self._call(self._encode, [self._given(pixels)])
        logits, boxes = [], []
        for number in range(depth):
            state[:2] = self._call(self._layers[number], state)
            if every or number == depth - 1:
                [scored] = self._call(self._heads[number], state[:1])
                logits.append(scored.data.copy())
                boxes.append(state[1].data.copy())
        return torch.from_numpy(np.stack(logits, 1)), torch.from_numpy(np.stack(boxes, 1))

    def steps(self, pixels: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
        if self._backbone is None:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._backbone = self._compile_backbone()
        given, state = [self._given(pixels)], list[Any]()

        def run_encode() -> None:
            state[:] = self._call(self._encode, given)

        def run_layer(number: int) -> None:
            state[:2] = self._call(self._layers[number], state)
            self._call(self._heads[number], state[:1])

        yield "backbone", lambda: self._call(self._backbone, given)
        yield "encoder", run_encode
        for number in range(len(self._layers)):
            yield f"decoder layer {number + 1}", functools.partial(run_layer, number)

    def _compile(self, stage: nn.Module, *given: Tensor) -> Any:
        if self._stop.is_set():
            raise Cancelled("No longer needed.")
        traced = torch.jit.trace(stage, given, check_trace=False, strict=False)
        shapes = [list(one.shape) for one in given]
        model = self._ov.convert_model(traced, example_input=given, input=shapes)
        hints = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return self._core.compile_model(model, "CPU", hints).create_infer_request()

    def _given(self, pixels: Tensor) -> Any:
        return self._ov.Tensor(pixels.contiguous().numpy(), shared_memory=True)

    @staticmethod
    def _call(request: Any, given: list[Any]) -> list[Any]:
        """Run a stage; what it gives stays valid until it runs again."""
        for place, one in enumerate(given):
            request.set_input_tensor(place, one)
        request.infer()
        return [request.get_output_tensor(i) for i in range(len(request.model_outputs))]

    def _check(self, stages: StagedRTDetr, pixels: Tensor) -> None:
        """Compare stage by stage on the same input: near ties of the selection may fall otherwise.

        Raises RuntimeError where a stage does not agree.
        """
        expected = stages.encode(pixels)
        found = self._call(self._encode, [self._given(pixels)])
        for ours, theirs in zip(found[2:], expected[2:], strict=True):
            # Relative to the map's spread: single values may be far out in half precision.
            spread = theirs.square().mean().sqrt().item()
            gap = np.sqrt(np.square(ours.data - theirs.numpy()).mean())
            self._demand(gap / spread, np.zeros(()), SCORE_TOLERANCE, "feature maps")
        for number, (layer, head) in enumerate(zip(stages.layers, stages.heads, strict=True)):
            given = [self._given(one) for one in expected]
            queries, boxes = layer(*expected)
            ours = self._call(self._layers[number], given)
            self._demand(ours[1].data, boxes.numpy(), BOX_TOLERANCE, "boxes")
            [logits] = self._call(self._heads[number], ours[:1])
            scores = torch.from_numpy(logits.data).sigmoid().numpy()
            self._demand(scores, head(queries).sigmoid().numpy(), SCORE_TOLERANCE, "scores")
            expected = (queries, boxes, *expected[2:])

    def _demand(self, ours: np.ndarray, theirs: np.ndarray, within: float, what: str) -> None:
        gap = float(np.abs(ours - theirs).max())
        if not gap <= within * self._tolerance:  # so that NaN fails, too
            raise RuntimeError(f"{what} differ by {gap:.2g}")


class _Maps(nn.Module):
    """A backbone that gives plain tensors, which is what can be traced."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(pixels).feature_maps)
