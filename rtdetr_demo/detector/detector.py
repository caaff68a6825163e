"""From a picture to predictions: one loaded RT-DETR on one device."""

import copy
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from cachetools import LRUCache
from PIL import Image
from transformers import PreTrainedModel, RTDetrImageProcessorPil
from transformers.utils import logging as transformers_logging

from ..cpus import cpu_quota
from ..errors import Busy, CheckpointError
from ..predictions import Predictions, Timing
from ..zero_gpu import is_zero_gpu
from .backends import End, Runtime, TorchBackend
from .compiled import CompiledShapes, Shape
from .cuda_graphs import CudaGraphBackend
from .devices import Stopwatch, best_device, lent_gpu, wait_for, within_memory
from .fusion import fuse
from .network import SHAPES, StagedRTDetr
from .parity import Reference, check_stages, place, reference_of
from .postprocess import topk_postprocess
from .preprocess import Preprocess
from .reading import class_names, load_failure, read_checkpoint
from .shape_limits import ShapeLimits

# Bars on the console would break the lines of the log.
transformers_logging.disable_progress_bar()
# A container may have fewer processors than its host, which PyTorch counts.
torch.set_num_threads(min(torch.get_num_threads(), cpu_quota()))

log = logging.getLogger(__name__)


class Detector(ShapeLimits):
    """An RT-DETR or RT-DETRv2 that detects, used by one thread at a time.

    Only `prepare` and `accelerate` may run in other threads beside passes.
    """

    def __init__(
        self,
        checkpoint: str,
        model: PreTrainedModel,
        processor: RTDetrImageProcessorPil,
        device: torch.device | None = None,
    ):
        """Take a float32 `model` on the CPU. Raises CheckpointError where it cannot run."""
        self.checkpoint = checkpoint
        self.folder: Path | None = None  # where its files lie, if it was loaded from some
        self.device_problem = ""
        """Why it is on the CPU although another device was to serve; a phrase, or empty."""
        self._processor = processor
        self.preprocess = Preprocess(processor, torch.device("cpu"))
        self.size = self.preprocess.size
        reference = reference_of(checkpoint, model.eval(), processor, self.preprocess)
        model = fuse(model)
        check_stages(checkpoint, model, reference)
        # A worker process of a ZeroGPU Space compares with it on the GPU that it is lent.
        self._reference: Reference | None = reference if is_zero_gpu() else None
        device = device or best_device()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
        model, self.device_problem = place(model, device, reference)
        if self.device_problem:
            log.warning("%s runs on the CPU: %s", checkpoint, self.device_problem)
        self.device = model.device
        self.preprocess = Preprocess(processor, self.device)
        self.model = model
        self.depth: int = model.config.decoder_layers
        self.queries: int = model.config.num_queries
        self.class_names = class_names(model.config)
        self._compiled = CompiledShapes(checkpoint, (self.queries, self.size))
        self._plain: LRUCache[int, TorchBackend] = LRUCache(SHAPES)
        self._plain_guard = threading.Lock()
        self._gpu_model: PreTrainedModel | None = None
        self._on_gpu = False

    @classmethod
    def load(cls, checkpoint: str, folder: Path, device: torch.device | None = None) -> "Detector":
        """Load a folder in the hub's layout. Raises CheckpointError where it holds no RT-DETR, or
        one that cannot run here."""
        model, processor = read_checkpoint(checkpoint, folder)
        try:
            detector = cls(checkpoint, model, processor, device)
        except CheckpointError:
            raise
        except Exception as error:
            log.warning("%s could not be loaded: %r", checkpoint, error)
            raise CheckpointError(load_failure(checkpoint, error)) from error
        detector.folder = folder
        return detector

    def preload_gpu_copy(self) -> None:
        """On a ZeroGPU Space: have a copy of the weights put on every GPU that is given.

        Only in the main thread and before the page opens is the Space's package there to do so.
        This process goes on with its own weights, on the CPU: they are what is exported. (The
        package also deletes the hub's files that lie behind what it takes, so it gets a copy.)
        """
        self._gpu_model = copy.deepcopy(self.model).to("cuda")

    def to_gpu(self) -> None:
        """Move to the GPU that this worker process was given, in half precision if that agrees.

        What `preload_gpu_copy` has put there is used; other weights are moved now. Raises Busy
        where there is no GPU or it fails; the next call tries again.
        """
        if self._on_gpu:
            return
        device = lent_gpu()
        assert self._reference is not None, "loaded on a ZeroGPU Space"
        # A copy on the GPU has to be given up before another one of these is tried.
        model, problem = place(self._gpu_model or self.model, device, self._reference)
        if problem:
            raise Busy(f"No GPU is available: {problem}. Try again in a moment.")
        self.model, self.device = model, device
        self.preprocess = Preprocess(self._processor, device)
        with self._plain_guard:
            self._plain.clear()
        self._compiled.clear()
        self._on_gpu = True

    @property
    def memory_bytes(self) -> int:
        """Bytes that the weights take: once for PyTorch, and once for each compiled network."""
        once = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return once * (1 + self._compiled.copies)

    @property
    def precision(self) -> str:
        """Data type of the weights, such as "float32"."""
        return str(self.model.dtype).removeprefix("torch.")

    def accelerate(
        self,
        queries: int | None = None,
        size: int | None = None,
        *,
        depth: int | None = None,
        half: bool = False,
        stop: threading.Event | None = None,
    ) -> bool:
        """Prepare OpenVINO for a shape on a CPU, if it is installed; whether it runs the shape.

        It takes some seconds, but about one once the converted network is in the user's cache.
        PyTorch serves until then, and goes on where this gives False. With `depth` a network that
        stops at this decoder layer is prepared, too, for passes that want this depth alone. `half`:
        in bfloat16, if that agrees. A thread that does this must be stopped by `stop` and joined
        before Python ends. Raises BadInput for a shape that the checkpoint cannot have.
        """
        shape = self._key(queries, size)
        cut = None if depth is None else self.check_depth(depth)
        is_fixed = size is not None or not self.preprocess.varies
        return (
            self.device.type == "cpu"
            and is_fixed
            and self._compiled.prepare(self.model, shape, cut, half, stop)
        )

    def is_accelerated(
        self, queries: int | None = None, size: int | None = None, depth: int | None = None
    ) -> bool:
        """Whether OpenVINO runs this number of queries at this input size; with `depth`, whether a
        network that stops at this decoder layer is ready."""
        backend = self._compiled.get(self._key(queries, size))
        return backend is not None and (depth is None or backend.has_cut(depth))

    def runtime(self, queries: int | None = None, size: int | None = None) -> Runtime:
        """The runtime that runs this number of queries at this input size at present."""
        if size is None and self.preprocess.varies:  # others are compiled for one size
            return self.torch_backend(queries)
        return self._compiled.get(self._key(queries, size)) or self.torch_backend(queries)

    def torch_backend(self, queries: int | None = None) -> TorchBackend:
        """The PyTorch backend for this number of queries; it takes any input size."""
        count = self.check_queries(queries)
        with self._plain_guard:
            backend = self._plain.get(count)
            if backend is None:
                # ZeroGPU takes the GPU back after one call, before a recording pays.
                is_ours = self.device.type == "cuda" and not is_zero_gpu()
                kind = CudaGraphBackend if is_ours else TorchBackend
                backend = kind(StagedRTDetr(self.model, count).eval())
                self._plain[count] = backend
        return backend

    def prepare(self, images: Sequence[Image.Image], size: int | None = None) -> torch.Tensor:
        """Preprocess RGB pictures, whose inputs have one size, to the model's input.

        May run in other threads beside passes; on a GPU the upload overlaps with them.

        Args:
            images: RGB pictures of any sizes.
            size: Side of the square input in pixels; the checkpoint's own by default.

        Returns:
            [batch, 3, height, width] on the device.

        Raises:
            BadInput: The checkpoint does not have this size, or keeps proportions that its network
                cannot take.
            Busy: There is too little memory.
        """
        side = None if size is None else self.check_size(size)
        for image in images:
            self.check_shape(self.preprocess.input_size(image, side))

        def work(some: Sequence[Image.Image]) -> list[torch.Tensor]:
            return list(self._preprocess(some, side).split(1))

        return torch.cat(within_memory(work, images, self.device, self._release))

    @torch.inference_mode()
    def _preprocess(
        self, images: Sequence[Image.Image], side: tuple[int, int] | None
    ) -> torch.Tensor:
        if self.device.type != "cuda":
            return self.preprocess(images, self.model.dtype, side)
        # A stream of its own, so that neither waits for the other; finished when it returns, so
        # that a pass may read the tensor on any stream.
        stream = torch.cuda.Stream(self.device)
        with torch.cuda.stream(stream):
            pixels = self.preprocess(images, self.model.dtype, side)
        stream.synchronize()
        return pixels

    def run(
        self,
        pixels: torch.Tensor,
        depth: int,
        every: bool,
        queries: int | None = None,
        size: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run `depth` decoder layers on what `prepare` returned for the same `size`.

        Gives logits [batch, layers, queries, classes] and boxes [batch, layers, queries, 4] (centre
        and size; 0 to 1) of every layer where `every`, else of the last one alone, once the device
        has finished.
        """
        with torch.inference_mode():
            pixels = pixels.to(self.device, self.model.dtype)
            output = self.runtime(queries, size).run(pixels, depth, every)
            wait_for(self.device)
        return output

    def prefix(
        self, end: End, queries: int | None = None, size: int | None = None
    ) -> Callable[[torch.Tensor], None]:
        """Prepare the first part of a pass, which may take a second; see `Runtime.prefix`.

        What is given runs it on pixels and returns once the device has finished.
        """
        part = self.runtime(queries, size).prefix(end)

        def run(pixels: torch.Tensor) -> None:
            with torch.inference_mode():
                part(pixels)
                wait_for(self.device)

        return run

    def predictions(
        self,
        logits: torch.Tensor,
        boxes: torch.Tensor,
        sizes: Sequence[tuple[int, int]],
        timing: Timing,
        depth: int,
        every: bool,
    ) -> list[Predictions]:
        """Rank what `run` gave for pictures of these sizes (width, height).

        `timing`: what preparing and running the batch took; the time of this step is added. Each
        picture's `Timing` is an even share.
        """
        began = time.perf_counter()
        with torch.inference_mode():
            candidates = topk_postprocess(logits, boxes)
            scores, labels, ranked, corners = (part.cpu().numpy() for part in candidates)
        taken = timing.postprocess + 1000 * (time.perf_counter() - began)
        parts = (timing.preprocess, timing.model, taken)
        share = Timing(*(part / len(sizes) for part in parts))
        return [
            Predictions(
                checkpoint=self.checkpoint,
                class_names=self.class_names,
                width=width,
                height=height,
                scores=scores[i],
                labels=labels[i],
                queries=ranked[i],
                boxes=corners[i] * np.array([width, height] * 2, dtype=np.float32),
                timing=share,
                first=1 if every else depth,
            )
            for i, (width, height) in enumerate(sizes)
        ]

    def _key(self, queries: int | None, size: int | None) -> Shape:
        return self.check_queries(queries), self.check_size(size)

    def detect(
        self,
        image: Image.Image,
        decoder_layers: int | None = None,
        *,
        queries: int | None = None,
        size: int | None = None,
        every_layer: bool = True,
    ) -> Predictions:
        """Detect in one RGB picture, running `decoder_layers` layers (all of them by default).

        `queries`: how many the decoder refines; `size`: the side of the square that the picture
        is resized to, in pixels; both as the checkpoint has them by default. With `every_layer`
        the predictions hold those of the layers before the last, too.
        """
        return self.detect_batch(
            [image], decoder_layers, queries=queries, size=size, every_layer=every_layer
        )[0]

    def detect_batch(
        self,
        images: Sequence[Image.Image],
        decoder_layers: int | None = None,
        *,
        queries: int | None = None,
        size: int | None = None,
        every_layer: bool = True,
    ) -> list[Predictions]:
        """Detect in RGB pictures of any sizes, in one pass where their inputs have one size;
        otherwise as `detect`.

        Each picture's `Timing` is an even share of the pass. Where memory does not suffice for all
        pictures at once, they are halved. Raises Busy where it does not suffice for one, BadInput
        for a picture whose proportions the checkpoint cannot take.
        """
        depth = self.check_depth(decoder_layers)
        self.check_queries(queries)
        prepared: dict[torch.Size, list[tuple[int, torch.Tensor, float]]] = {}
        for i, image in enumerate(images):
            began = time.perf_counter()
            pixels = self.prepare([image], size)
            taken = 1000 * (time.perf_counter() - began)
            prepared.setdefault(pixels.shape, []).append((i, pixels, taken))
        predictions: dict[int, Predictions] = {}
        for alike in prepared.values():
            numbers, batch, times = zip(*alike, strict=True)
            sizes = [images[i].size for i in numbers]
            done = self.detect_prepared(batch, sizes, times, depth, queries, size, every_layer)
            predictions.update(zip(numbers, done, strict=True))
        return [predictions[i] for i in range(len(images))]

    def detect_prepared(
        self,
        pixels: Sequence[torch.Tensor],
        sizes: Sequence[tuple[int, int]],
        preprocess_ms: Sequence[float],
        depth: int,
        queries: int | None = None,
        size: int | None = None,
        every_layer: bool = True,
    ) -> list[Predictions]:
        """Detect in prepared pictures in one pass, or in halves where memory runs out.

        Args:
            pixels: What `prepare` returned for each, [1, 3, height, width], all of one shape.
            sizes: Width and height of each picture, in pixels.
            preprocess_ms: What preparing each took, in milliseconds.
            depth: Decoder layers to run.
            queries: As in `detect`.
            size: As in `detect`.
            every_layer: As in `detect`.

        Raises:
            Busy: Memory does not suffice for one picture.
        """

        def work(numbers: Sequence[int]) -> list[Predictions]:
            watch = Stopwatch(self.device)
            batch = torch.cat([pixels[i] for i in numbers])
            logits, boxes = self.run(batch, depth, every_layer, queries, size)
            watch.mark()
            [model] = watch.milliseconds()
            timing = Timing(sum(preprocess_ms[i] for i in numbers), model, 0.0)
            some = [sizes[i] for i in numbers]
            return self.predictions(logits, boxes, some, timing, depth, every_layer)

        return within_memory(work, range(len(pixels)), self.device, self._release)

    def _release(self) -> None:
        with self._plain_guard:
            for backend in self._plain.values():
                backend.release()
