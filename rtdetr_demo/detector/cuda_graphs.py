"""CUDA graphs: PyTorch passes on an NVIDIA GPU, recorded once and replayed.

A graph replays kernels with the addresses that they were recorded with. So an entry owns all that
its graphs read: the input, the constants of its shape, and a memory pool. Where something was
missed, a replay fails rather than read freed memory (`check_input_liveness`).

Each stage is a graph of its own, one for the encoder and one for each decoder layer with its head,
so that a shape takes one entry however deep the passes are.

Considered instead, without a GPU at hand to time them:

- `torch.compile(mode="reduce-overhead")` needs Triton and a compiler where the demo runs, compiles
  for minutes again for each size that a visitor chooses, and ties its graphs to one thread.
- `torch.cuda.make_graphed_callables` also fixes the input's shape, so this cache would remain; it
  keeps the input, but not the constants of a shape, and leaves no way back from a failed capture.
"""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import torch
from cachetools import LRUCache
from torch import Tensor

from .backends import TorchBackend
from .network import ShapeConstants, StagedRTDetr

log = logging.getLogger(__name__)

BATCHES = (1, 2, 4, 8, 16)
"""Batches are padded to one of these with the last picture; larger ones are not recorded."""
USES = 4
"""The pass of a shape from which on it is recorded."""
KEPT = 8
"""Shapes (batch, height, width) whose recordings are kept."""


class Graph(Protocol):
    """One recorded stretch of work."""

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records work on a device; see `CudaRecorder`."""

    def warm_up(self, work: Callable[[], object]) -> None:
        """Do the work a few times, so that nothing is allocated or tuned while it is recorded."""

    def record(self, work: Callable[[], Any]) -> tuple[Graph, Any]:
        """Record the work; gives the graph, and what the work returned, which each replay fills
        anew. All recordings of one recorder share memory and must be replayed in their order."""


class CudaRecorder:
    """Records on one GPU, into a memory pool of its own, which is freed with its graphs."""

    def __init__(self, device: torch.device):
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], object]) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(3):
                work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], Any]) -> tuple[Graph, Any]:
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._device)
        try:
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
                check_input_liveness=True,
            ):
                result = work()
        except BaseException:
            # A capture that fails leaves its own stream current.
            torch.cuda.set_stream(current)
            raise
        return graph, result


class _Recording:
    """One shape: graphs of the stages recorded so far, and all that they read and write."""

    def __init__(self, stages: StagedRTDetr, pixels: Tensor, recorder: Recorder):
        self._stages = stages
        self._recorder = recorder
        self.pixels = pixels.clone(memory_format=torch.preserve_format)
        self.constants: ShapeConstants = stages.encode.constants(stages.encode.project(self.pixels))
        self._graphs: list[Graph] = []
        self._states: list[tuple[Tensor, ...]] = []
        self._results: list[tuple[Tensor, Tensor]] = []
        self._add(lambda: stages.encode(self.pixels, self.constants))

    def _add(self, work: Callable[[], tuple[Tensor, ...]]) -> None:
        self._recorder.warm_up(work)
        graph, state = self._recorder.record(work)
        self._graphs.append(graph)
        self._states.append(state)

    def _add_layer(self) -> None:
        number, before = len(self._results), self._states[-1]
        layer, head = self._stages.layers[number], self._stages.heads[number]

        def work() -> tuple[Tensor, ...]:
            queries, boxes = layer(*before[:2], *self._states[0][2:])
            return queries, boxes, head(queries).float()

        self._add(work)
        _, boxes, logits = self._states[-1]
        self._results.append((logits, boxes))

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        """As `Runtime.run`; layers that no pass has reached yet are recorded on the way."""
        self.pixels.copy_(pixels)
        self._graphs[0].replay()
        for number in range(depth):
            if number == len(self._results):
                self._add_layer()
            self._graphs[1 + number].replay()
        # Stacking copies: the next replay writes into the same memory.
        logits, boxes = zip(*self._results[0 if every else depth - 1 : depth], strict=True)
        return torch.stack(logits, 1), torch.stack(boxes, 1).float()


class CudaGraphBackend(TorchBackend):
    """PyTorch on a GPU, each stage of a shape recorded after a few uses and then replayed.

    Where recording fails, passes run as they are from then on. Safe to share between threads.
    """

    name = "CUDA graphs"

    def __init__(
        self,
        stages: StagedRTDetr,
        recorder: Callable[[torch.device], Recorder] = CudaRecorder,
    ):
        super().__init__(stages)
        self._make_recorder = recorder
        self._recordings: OrderedDict[tuple, _Recording] = OrderedDict()
        self._uses: LRUCache[tuple, int] = LRUCache(256)
        """How often a shape was used since it was last recorded."""
        self._needed: LRUCache[tuple, int] = LRUCache(256)
        self._failed = False
        self._guard = threading.Lock()

    def run(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor]:
        with self._guard:
            done = None if self._failed else self._replay(pixels, depth, every)
        return super().run(pixels, depth, every) if done is None else done

    def release(self) -> None:
        with self._guard:
            self._recordings.clear()
            self._uses.clear()

    def _replay(self, pixels: Tensor, depth: int, every: bool) -> tuple[Tensor, Tensor] | None:
        count = len(pixels)
        batch = next((size for size in BATCHES if size >= count), None)
        if batch is None:
            return None
        key = (batch, *pixels.shape[1:], pixels.dtype)
        recording = self._recordings.get(key)
        if recording is None:
            self._uses[key] = self._uses.get(key, 0) + 1
            if self._uses[key] < self._needed.get(key, USES):
                return None
        if batch > count:
            pixels = torch.cat([pixels, pixels[-1:].expand(batch - count, -1, -1, -1)])
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        try:
            with _on(pixels.device):
                if recording is None:
                    recording = self._record(key, pixels)
                self._recordings.move_to_end(key)
                logits, boxes = recording.run(pixels, depth, every)
        except RuntimeError as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            return logits[:count], boxes[:count]
        # Only here: the exception's frames hold what was recorded.
        log.warning("passes are no longer recorded as CUDA graphs: %s", reason.split("\n")[0])
        recording = None
        self._failed, self.name = True, TorchBackend.name
        self._recordings.clear()
        if pixels.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _record(self, key: tuple, pixels: Tensor) -> _Recording:
        if len(self._recordings) >= KEPT:
            dropped, _ = self._recordings.popitem(last=False)
            # Where more shapes take turns than are kept, each would be recorded again and again.
            self._needed[dropped] = 2 * self._needed.get(dropped, USES)
            self._uses[dropped] = 0
        recording = _Recording(self.stages, pixels, self._make_recorder(pixels.device))
        self._recordings[key] = recording
        return recording


def _on(device: torch.device) -> Any:
    """Make a GPU the current one for a while, as capturing records on that."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
