"""What an engine's thread runs: passes on this process's device, or on a ZeroGPU Space's."""

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from ..checkpoints.store import ModelStore
from ..predictions import Predictions
from ..zero_gpu import gpu_task
from .requests import Params, Prepared

if TYPE_CHECKING:
    from ..detector.detector import Detector
    from ..detector.inspection import Inspection

GPU_BATCH = 8
"""Most pictures of one pass on a GPU."""

ZERO_GPU_SECONDS = 20
"""Most seconds of one call on a ZeroGPU Space: a visitor has minutes a day."""

ZERO_GPU_BATCH = 48
"""Most pictures of one such call, such as the frames of a video."""

ZERO_GPU_CALLS = 4
"""Calls under way at once: each gets a GPU of its own."""


class Device(Protocol):
    """Runs passes for an engine.

    `threads` threads call `detect` and `inspect`; `prepare` is called from other threads, while
    passes run.
    """

    threads: int

    def batch_limit(self, detector: Any) -> int:
        """Most pictures of one pass."""

    def prepare(self, detector: Any, image: Image.Image, params: Params) -> Any:
        """Turn an RGB picture into the network's input. Raises BadInput for `params` that the
        checkpoint does not have."""

    def detect(self, detector: Any, pictures: Sequence[Any], params: Params) -> list[Predictions]:
        """Run one pass over prepared pictures."""

    def inspect(self, detector: Any, picture: Any, params: Params) -> "Inspection":
        """Run one recorded pass over a prepared picture."""


class LocalDevice:
    """The CPU, GPU or MPS device that this process's detectors are on."""

    threads = 1

    def batch_limit(self, detector: "Detector") -> int:
        """Most pictures of one pass. A CPU gains nothing by batches."""
        return 1 if detector.device.type == "cpu" else GPU_BATCH

    def prepare(self, detector: "Detector", image: Image.Image, params: Params) -> Prepared:
        """Resize and scale an RGB picture; on a GPU the upload overlaps with passes."""
        detector.check_depth(params.decoder_layers)
        detector.check_queries(params.queries)
        began = time.perf_counter()
        pixels = detector.prepare([image], params.size)
        return Prepared(pixels, *image.size, 1000 * (time.perf_counter() - began))

    def detect(
        self, detector: "Detector", pictures: Sequence[Prepared], params: Params
    ) -> list[Predictions]:
        """Run one pass; each picture's `Timing` is an even share of it."""
        return run_pass(detector, pictures, params)

    def inspect(self, detector: "Detector", picture: Prepared, params: Params) -> "Inspection":
        """Run one recorded pass."""
        import torch

        from ..detector.inspection import inspect_prepared

        size = (picture.width, picture.height)
        return inspect_prepared(detector, torch.as_tensor(picture.pixels), size, params.queries)


class ZeroGpuDevice(LocalDevice):
    """The GPU that a ZeroGPU Space lends for one call at a time.

    Passes run in a worker process, a copy of this one, which has the GPU.

    Args:
        store: Holds the detectors, in this process and in its copies.
    """

    threads = ZERO_GPU_CALLS

    def __init__(self, store: ModelStore):
        self._store = store
        self._detect = gpu_task(self._detect_on_gpu, ZERO_GPU_SECONDS)
        self._inspect = gpu_task(self._inspect_on_gpu, ZERO_GPU_SECONDS)

    def batch_limit(self, detector: "Detector") -> int:
        """Most pictures of one call."""
        return ZERO_GPU_BATCH

    def detect(
        self, detector: "Detector", pictures: Sequence[Prepared], params: Params
    ) -> list[Predictions]:
        """Run one pass in a worker process. Raises Busy where no GPU is available."""
        return self._detect(
            detector.checkpoint, [_sendable(picture) for picture in pictures], params
        )

    def inspect(self, detector: "Detector", picture: Prepared, params: Params) -> "Inspection":
        """Run one recorded pass in a worker process. Raises Busy where no GPU is available."""
        return self._inspect(detector.checkpoint, _sendable(picture), params)

    def _detect_on_gpu(
        self, checkpoint: str, pictures: Sequence[Prepared], params: Params
    ) -> list[Predictions]:
        return run_pass(self.on_gpu(checkpoint), pictures, params)

    def _inspect_on_gpu(self, checkpoint: str, picture: Prepared, params: Params) -> "Inspection":
        return super().inspect(self.on_gpu(checkpoint), picture, params)

    def on_gpu(self, checkpoint: str) -> "Detector":
        """In a worker process: the detector, moved to the GPU that was lent."""
        detector = self._store.get(checkpoint)
        detector.to_gpu()
        return detector


def run_pass(
    detector: "Detector", pictures: Sequence[Prepared], params: Params
) -> list[Predictions]:
    """Detect in prepared pictures of one input shape, in one pass of a detector."""
    import torch

    return detector.detect_prepared(
        [torch.as_tensor(picture.pixels) for picture in pictures],
        [(picture.width, picture.height) for picture in pictures],
        [picture.milliseconds for picture in pictures],
        detector.check_depth(params.decoder_layers),
        params.queries,
        params.size,
        params.every_layer,
    )


def _sendable(picture: Prepared) -> Prepared:
    """With an array in place of the tensor, which processes would share by file descriptor."""
    return dataclasses.replace(picture, pixels=picture.pixels.numpy())
