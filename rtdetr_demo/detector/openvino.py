"""OpenVINO: the network compiled for a CPU, and cut at the depths that are used most.

The whole network is converted once, with the outputs of every stage. What is compiled is that
network without the outputs that are not needed, and so without the work that leads to them: all
decoder layers, one depth, or the first stages alone.
"""

import copy
import functools
import logging
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from PIL import Image
from torch import Tensor, nn

from ..errors import Cancelled
from .backends import BOX_TOLERANCE, SCORE_TOLERANCE, End
from .network import StagedRTDetr
from .openvino_cache import ConvertedCache, fingerprint
from .openvino_import import import_openvino

log = logging.getLogger(__name__)

CUTS = 2
"""Cuts that are kept beside the network with all layers."""

HALF_SCORE_TOLERANCE, HALF_BOX_TOLERANCE = 0.02, 2 / 640
"""How far bfloat16 may be from PyTorch: in score, and in box as a share of the picture."""

SAME_QUERIES = 0.97
"""Share of the selected queries that must be PyTorch's; near ties may fall otherwise."""

Outputs = tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]
"""The tokens that queries were made of [1, queries]; logits and boxes of layers."""


class OpenVinoBackend:
    """OpenVINO on a CPU, for one input size; a batch runs one picture at a time.

    The network with the outputs of all layers serves every depth; `prepare_cut` compiles one that
    stops at a depth, which then serves passes that want that depth alone. Passes are run by one
    thread; cuts may be prepared by another one meanwhile.

    Args:
        stages: the network, for one number of queries.
        size: height and width of the input.
        half: compute in bfloat16 where the processor has it: faster, and further from PyTorch.
        stop: give up as soon as this is set.
        cache: folder that keeps the converted network between runs (None: none).

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot compile the network, or disagrees with PyTorch.
        Cancelled: `stop` was set.
    """

    def __init__(
        self,
        stages: StagedRTDetr,
        size: tuple[int, int],
        half: bool = False,
        stop: threading.Event | None = None,
        cache: Path | None = None,
    ):
        openvino = import_openvino()
        self.name = "OpenVINO bf16" if half else "OpenVINO"
        self.size = size
        self.depth = len(stages.layers)
        self._half = half
        self._ov = openvino
        self._stages = stages
        self._core = openvino.Core()
        self._cuts: LRUCache[int, Any] = LRUCache(CUTS)
        self._refused: set[int] = set()
        self._guard = threading.Lock()
        began = time.perf_counter()
        kept = ConvertedCache(cache) if cache else None
        name = fingerprint(stages, size) if kept else ""
        converted = kept and kept.load(name, self._core.read_model)
        if converted:
            try:
                self._network = converted
                self._every = self._compile_checked(range(1, self.depth + 1), kept, name)
            except RuntimeError as error:
                # Whatever the files hold, it is not this network, or not any more.
                log.info("the network is converted anew: %s", error)
                assert kept
                kept.discard(name)
                converted = None
        if not converted:
            self._network = self._convert(stop or threading.Event())
            if kept and kept.store(name, self._save):
                # The files are mapped into memory; what was converted is released.
                self._network = kept.load(name, self._core.read_model) or self._network
            self._every = self._compile_checked(range(1, self.depth + 1), kept, name)
        log.info("OpenVINO is ready after %.1f s", time.perf_counter() - began)

    @property
    def copies(self) -> int:
        """How many compiled networks are held; each has a copy of the weights that it needs."""
        return 1 + len(self._cuts)

    def has_cut(self, depth: int) -> bool:
        """Whether a network that stops at this depth is compiled."""
        with self._guard:
            return depth in self._cuts

    def prepare_cut(self, depth: int) -> None:
        """Compile a network that stops at this depth, in less than a second.

        The least recently used cut past `CUTS` is dropped. One that disagrees with PyTorch is
        not used: all layers go on serving its depth.
        """
        if self.has_cut(depth) or depth in self._refused:
            return
        try:
            request = self._compile_checked([depth])
        except RuntimeError as error:
            log.warning("OpenVINO does not stop at layer %d: %s", depth, error)
            self._refused.add(depth)
            return
        with self._guard:
            self._cuts[depth] = request

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        cut = None
        if not every:
            with self._guard:
                cut = self._cuts.get(depth)
        kept = slice(0, depth) if every else slice(depth - 1, depth)
        logits, boxes = [], []
        for picture in pixels.split(1):
            _, layer_logits, layer_boxes = self._call(cut or self._every, picture)
            if not cut:
                layer_logits, layer_boxes = layer_logits[kept], layer_boxes[kept]
            logits.append(np.stack(layer_logits, 1))
            boxes.append(np.stack(layer_boxes, 1))
        return torch.from_numpy(np.concatenate(logits)), torch.from_numpy(np.concatenate(boxes))

    def prefix(self, end: End) -> Callable[[Tensor], object]:
        """The network up to a stage, compiled for this unless it serves; see `Runtime`."""
        if isinstance(end, int) and self.has_cut(end):
            return lambda pixels: self.run(pixels, end, False)
        maps = len(self._network.outputs) - 3 - 2 * self.depth
        if end == "backbone":
            request = self._compile(range(maps))
        elif end == "encoder":
            request = self._compile([maps, maps + 1])
        else:
            request = self._compile(self._outputs([end]))
        return functools.partial(self._call, request)

    def _outputs(self, layers: Sequence[int]) -> list[int]:
        """The outputs to keep for these layers: chosen tokens, then each layer's logits, boxes."""
        first = len(self._network.outputs) - 2 * self.depth
        return [first - 1, *(first + 2 * layer - 2 + part for layer in layers for part in (0, 1))]

    def _convert(self, stop: threading.Event) -> Any:
        """The network in OpenVINO's form, with the outputs of `_AllOutputs`."""
        _check(stop)
        # Tracing swaps methods of modules for a while: not on those that serve. Weights are shared.
        weights = {
            id(tensor): tensor for tensor in (*self._stages.parameters(), *self._stages.buffers())
        }
        module = _AllOutputs(copy.deepcopy(self._stages, weights))
        pixels = torch.zeros(1, 3, *self.size)
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer: shapes are constants here, as they may
            traced = torch.jit.trace(module, (pixels,), check_trace=False, strict=False)
            _check(stop)
            converted = self._ov.convert_model(
                traced, example_input=(pixels,), input=[list(pixels.shape)]
            )
            _check(stop)
            return converted

    def _save(self, file: Path) -> None:
        self._ov.save_model(self._network, file, compress_to_fp16=False)

    def _compile(
        self, outputs: Sequence[int], kept: ConvertedCache | None = None, name: str = ""
    ) -> Any:
        """A request that computes these outputs of the network."""
        results = self._network.get_results()
        pruned = self._ov.Model([results[i] for i in outputs], self._network.get_parameters())
        hints: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._half else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        if folder := kept and kept.compiled(name):
            hints["CACHE_DIR"] = str(folder)
        return self._core.compile_model(pruned, "CPU", hints).create_infer_request()

    def _compile_checked(
        self, layers: Sequence[int], kept: ConvertedCache | None = None, name: str = ""
    ) -> Any:
        """A request for these layers. Raises RuntimeError unless it agrees with PyTorch."""
        request = self._compile(self._outputs(layers), kept, name)
        pixels, expected = self._reference
        chosen, logits, boxes = self._call(request, pixels)
        self._compare((chosen, logits, boxes), expected, layers)
        return request

    def _call(self, request: Any, pixels: Tensor) -> Outputs:
        given = self._ov.Tensor(pixels.contiguous().numpy(), shared_memory=True)
        request.set_input_tensor(0, given)
        request.infer()
        outputs = [tensor.data.copy() for tensor in request.output_tensors]
        return outputs[0], outputs[1::2], outputs[2::2]

    @functools.cached_property
    def _reference(self) -> tuple[Tensor, Outputs]:
        """A picture, and what PyTorch says of it."""
        pixels = _photograph(self.size)
        with torch.inference_mode(False), torch.no_grad():
            outputs = [tensor.numpy() for tensor in _AllOutputs(self._stages)(pixels)]
        chosen, *layers = outputs[-1 - 2 * self.depth :]
        return pixels, (chosen, layers[::2], layers[1::2])

    def _compare(self, outputs: Outputs, expected: Outputs, layers: Sequence[int]) -> None:
        """Compare query by query. Raises RuntimeError where they do not agree."""
        places = {int(token): place for place, token in enumerate(expected[0][0])}
        chosen = [int(token) for token in outputs[0][0]]
        mine = [place for place, token in enumerate(chosen) if token in places]
        if len(mine) < SAME_QUERIES * len(chosen):
            raise RuntimeError(f"{len(chosen) - len(mine)} of {len(chosen)} queries differ")
        same = [places[chosen[place]] for place in mine]
        for number, logits, boxes in zip(layers, *outputs[1:], strict=True):
            scores, expected_scores = (
                torch.from_numpy(one[0, which]).sigmoid().numpy()
                for one, which in ((logits, mine), (expected[1][number - 1], same))
            )
            self._demand(scores, expected_scores, False, f"scores of layer {number}")
            expected_boxes = expected[2][number - 1][0, same]
            self._demand(boxes[0, mine], expected_boxes, True, f"boxes of layer {number}")

    def _demand(self, mine: np.ndarray, expected: np.ndarray, box: bool, what: str) -> None:
        full, half = (
            (BOX_TOLERANCE, HALF_BOX_TOLERANCE) if box else (SCORE_TOLERANCE, HALF_SCORE_TOLERANCE)
        )
        gap = float(np.abs(mine - expected).max())
        if not gap <= (half if self._half else full):  # so that NaN fails, too
            raise RuntimeError(f"{what} differ by {gap:.2g}")


class _AllOutputs(nn.Module):
    """The network with all that a backend may read, as plain tensors.

    Gives the backbone's maps; the queries, their boxes, and the tokens that they were made of;
    then logits and boxes of each decoder layer.
    """

    def __init__(self, stages: StagedRTDetr):
        super().__init__()
        self.stages = stages

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        encode = self.stages.encode
        features = encode.backbone(pixels).feature_maps
        projected = [
            project(one) for project, one in zip(encode.backbone_proj, features, strict=True)
        ]
        maps = encode.decoder_maps(encode.encoder(projected).last_hidden_state)
        _, chosen, queries, boxes = encode.select(maps)
        outputs = [*features, queries, boxes, chosen]
        for layer, head in zip(self.stages.layers, self.stages.heads, strict=True):
            queries, boxes = layer(queries, boxes, *maps)
            outputs += [head(queries), boxes]
        return tuple(outputs)


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Cancelled("No longer needed.")


def _photograph(size: tuple[int, int]) -> Tensor:
    """An example picture as pixels [1, 3, height, width] from 0 to 1; else smooth noise."""
    height, width = size
    package = Path(__file__).parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        try:
            with Image.open(folder / "street.jpg") as opened:
                image = opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        except OSError:
            continue
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, size, mode="bilinear")
