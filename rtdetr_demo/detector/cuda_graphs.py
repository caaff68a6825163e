"""CUDA graphs: PyTorch passes on an NVIDIA GPU, recorded once and replayed."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .backends import End, TorchBackend
from .network import StagedRTDetr

log = logging.getLogger(__name__)


class CudaGraphBackend(TorchBackend):
    """PyTorch on a card, each (shape, depth) recorded once and then replayed in one go.

    A shape is recorded when it comes a second time; one that cannot be recorded runs as it is.
    """

    name = "CUDA graphs"
    KEPT = 24

    def __init__(self, stages: StagedRTDetr):
        super().__init__(stages)
        self._graphs: OrderedDict[tuple, tuple[Any, Tensor, tuple[Tensor, Tensor]] | None] = (
            OrderedDict()
        )
        self._seen: set[tuple] = set()
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        key = (tuple(pixels.shape), depth, every)
        if key not in self._graphs:
            if key not in self._seen:
                if len(self._seen) >= 8 * self.KEPT:
                    self._seen.clear()
                self._seen.add(key)
                return super().run(pixels, depth, every)
            self._graphs[key] = self._record(pixels, depth, every)
            if len(self._graphs) > self.KEPT:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        recorded = self._graphs[key]
        if recorded is None:
            return super().run(pixels, depth, every)
        graph, given, (logits, boxes) = recorded
        given.copy_(pixels)
        graph.replay()
        return logits.clone(), boxes.clone()

    def _record(
        self, pixels: Tensor, depth: int, every: bool
    ) -> tuple[Any, Tensor, tuple[Tensor, Tensor]] | None:
        try:
            given = pixels.clone(memory_format=torch.preserve_format)
            run = super().run
            graph, result = self._capture(lambda: run(given, depth, every))
        except RuntimeError as error:
            log.warning("no CUDA graph for %s: %s", tuple(pixels.shape), error)
            return None
        return graph, given, result

    def prefix(self, end: End) -> Callable[[Tensor], object]:
        part = super().prefix(end)
        if isinstance(end, int):
            return part  # which `run` records
        given: Tensor | None = None
        graph: Any = None

        def run(pixels: Tensor) -> None:
            # Recorded like the passes that it is part of; what is timed is the same tensor again.
            nonlocal given, graph
            if given is not pixels:
                given = pixels
                try:
                    graph, _ = self._capture(lambda: part(pixels))
                except RuntimeError as error:
                    log.warning("no CUDA graph up to the %s: %s", end, error)
                    graph = None
            if graph is None:
                part(pixels)
            else:
                graph.replay()

        return run

    def _capture(self, work: Callable[[], Any]) -> tuple[Any, Any]:
        """A graph of some work, and where it leaves its result."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the card meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = work()
        return graph, result
