"""From a picture to predictions: one loaded RT-DETR on one device."""

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from PIL import Image
from transformers import AutoModelForObjectDetection, PreTrainedModel, RTDetrImageProcessorPil
from transformers.utils import logging as transformers_logging

from ..cpus import cpu_quota
from ..errors import BadInput, CheckpointError
from ..predictions import Predictions, Timing, check_depth, is_whole
from ..zero_gpu import is_zero_gpu
from . import efficientnet_lite as _efficientnet_lite  # noqa: F401  (registers the bundled checkpoint's backbone)
from .backends import End, Runtime, TorchBackend
from .compiled import CompiledShapes, Shape
from .cuda_graphs import CudaGraphBackend
from .fusion import fuse
from .network import SHAPES, StagedRTDetr
from .parity import check_parity
from .postprocess import topk_postprocess
from .preprocess import Preprocess

# The page and the log say what is going on; bars on the console would only break their lines.
transformers_logging.disable_progress_bar()
# A container may have fewer processors than its host, which PyTorch counts.
torch.set_num_threads(min(torch.get_num_threads(), cpu_quota()))

log = logging.getLogger(__name__)

MODEL_TYPES = ("rt_detr", "rt_detr_v2")


def best_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU; on a ZeroGPU Space the CPU."""
    return torch.device("cpu") if is_zero_gpu() else _present_device()


def _present_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class Detector:
    """An RT-DETR or RT-DETRv2 that detects.

    One thread at a time uses it. Only `accelerate` may run in another thread beside passes.
    """

    def __init__(
        self,
        checkpoint: str,
        model: PreTrainedModel,
        processor: RTDetrImageProcessorPil,
        device: torch.device | None = None,
    ):
        self.checkpoint = checkpoint
        self.folder: Path | None = None
        """Where its files lie, if it was loaded from some."""
        self.device = device or best_device()
        model = fuse(model.eval())
        check_parity(checkpoint, model)
        model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[arg-type]
        self._processor = processor
        self.preprocess = Preprocess(processor, self.device)
        self.size = self.preprocess.size
        if self.device.type == "cuda" and _half_agrees(model, self.size):
            model = model.half()
        self.model = model
        self.depth: int = model.config.decoder_layers
        self.queries: int = model.config.num_queries
        id2label: dict[Any, str] = model.config.id2label or {}
        self.class_names = tuple(id2label[i] for i in range(len(id2label)))
        self._compiled = CompiledShapes(checkpoint, (self.queries, self.size))
        self._plain: LRUCache[int, TorchBackend] = LRUCache(SHAPES)
        self._plain_guard = threading.Lock()
        self._gpu_model: PreTrainedModel | None = None
        self._on_gpu = False

    @classmethod
    def load(cls, checkpoint: str, folder: Path, device: torch.device | None = None) -> "Detector":
        """Load a folder in the hub's layout. Raises CheckpointError where it holds no RT-DETR."""
        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
            if kind not in MODEL_TYPES:
                raise CheckpointError(
                    f"{checkpoint} is a {str(kind)[:40]} model, not an RT-DETR. "
                    "Choose an RT-DETR or RT-DETRv2 checkpoint."
                )
            model, report = AutoModelForObjectDetection.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            # transformers would fill these with random numbers.
            if absent := set(report["missing_keys"]) | set(report["mismatched_keys"]):
                raise ValueError(f"no weights for {sorted(map(str, absent))[:3]}")
            processor = RTDetrImageProcessorPil.from_pretrained(folder, local_files_only=True)
            detector = cls(checkpoint, model, processor, device)
            detector.folder = folder
            return detector
        except CheckpointError:
            raise
        except Exception as error:
            # Whatever a damaged or foreign file makes the loaders raise: there is no end of kinds.
            log.warning("%s could not be loaded: %r", checkpoint, error)
            raise CheckpointError(
                f"{checkpoint} could not be loaded: its files are damaged or incomplete. "
                "Choose another checkpoint, or delete its files and download it again."
            ) from error

    def preload_gpu_copy(self) -> None:
        """On a ZeroGPU Space: have a copy of the weights put on every GPU that is given.

        Only in the main thread and before the page opens is the Space's package there to do so.
        This process goes on with its own weights, on the CPU: they are what is exported. (The
        package also deletes the hub's files that lie behind what it takes, so it gets a copy.)
        """
        self._gpu_model = copy.deepcopy(self.model).to("cuda")  # type: ignore[arg-type]

    def to_gpu(self) -> None:
        """Move to the GPU that this worker process was given, in half precision if that agrees.

        What `preload_gpu_copy` has put there is used; other weights are moved now.
        """
        if self._on_gpu:
            return
        self._on_gpu = True
        device = _present_device()
        if self._gpu_model is not None:
            self.model = self._gpu_model
        elif device != self.device:
            self.model.to(device)  # type: ignore[arg-type]
        if device.type == "cuda" and _half_agrees(self.model, self.size):
            self.model.half()
        self.device = device
        self.preprocess = Preprocess(self._processor, device)
        with self._plain_guard:
            self._plain.clear()
        self._compiled.clear()

    @property
    def memory_bytes(self) -> int:
        """Bytes that the weights take: once for PyTorch, and once for each compiled network."""
        once = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return once * (1 + self._compiled.copies)

    @property
    def tokens(self) -> int:
        """Feature-map positions of one picture that the decoder can attend to."""
        height, width = self.size
        strides = self.model.config.feat_strides
        return sum(-(-height // stride) * -(-width // stride) for stride in strides)

    @property
    def query_range(self) -> tuple[int, int]:
        """The fewest and the most queries that a pass may have."""
        return min(10, self.queries), self.queries

    @property
    def size_range(self) -> tuple[int, int]:
        """The least and the largest input size in pixels."""
        return 128, max(640, *self.size)

    @property
    def precision(self) -> str:
        """The weights' dtype, such as "float32"."""
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
        return self.device.type == "cpu" and self._compiled.prepare(
            self.model, shape, cut, half, stop
        )

    def is_accelerated(
        self, queries: int | None = None, size: int | None = None, depth: int | None = None
    ) -> bool:
        """Whether OpenVINO runs this number of queries at this input size; with `depth`, whether a
        network that stops at this decoder layer is ready."""
        backend = self._compiled.get(self._key(queries, size))
        return backend is not None and (depth is None or backend.has_cut(depth))

    def runtime(self, queries: int | None = None, size: int | None = None) -> Runtime:
        """The backend that runs this number of queries at this input size at present."""
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
        """Preprocess RGB pictures to the model's input: [batch, 3, height, width] on the device."""
        side = self.check_size(size)
        with torch.inference_mode():
            return self.preprocess(images, self.model.dtype, side)

    def run(
        self,
        pixels: torch.Tensor,
        depth: int,
        every: bool,
        queries: int | None = None,
        size: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run `depth` decoder layers on what `prepare` gave for the same `size`.

        Gives logits [batch, layers, queries, classes] and boxes [batch, layers, queries, 4] (centre
        and size; 0 to 1) of every layer where `every`, else of the last one alone, once the device
        has finished.
        """
        with torch.inference_mode():
            output = self.runtime(queries, size).run(pixels, depth, every)
            self._synchronize()
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
                self._synchronize()

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
        """Detect in RGB pictures of any sizes in one pass; otherwise as `detect`.

        Each picture's `Timing` is an even share of the pass.
        """
        depth = self.check_depth(decoder_layers)
        self.check_queries(queries)
        began = time.perf_counter()
        pixels = self.prepare(images, size)
        ready = time.perf_counter()
        logits, boxes = self.run(pixels, depth, every_layer, queries, size)
        timing = Timing(1000 * (ready - began), 1000 * (time.perf_counter() - ready), 0.0)
        sizes = [image.size for image in images]
        return self.predictions(logits, boxes, sizes, timing, depth, every_layer)

    def _synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).synchronize()

    def check_depth(self, decoder_layers: int | None) -> int:
        """The number of layers to run; `None` is all. Raises BadInput outside 1 to `depth`."""
        return check_depth(decoder_layers, self.depth)

    def check_queries(self, queries: int | None) -> int:
        """The number of queries. Raises BadInput outside `query_range`."""
        if queries is None:
            return self.queries
        fewest, most = self.query_range
        if not is_whole(queries) or not fewest <= queries <= most:
            raise BadInput(f"This checkpoint has {most} queries: choose from {fewest} to {most}.")
        return queries

    def check_size(self, size: int | None) -> tuple[int, int]:
        """Height and width of the input. Raises BadInput for a size that the maps cannot have."""
        if size is None:
            return self.size
        least, largest = self.size_range
        if not is_whole(size) or size % 32 or not least <= size <= largest:
            raise BadInput(f"The input size is a multiple of 32 from {least} to {largest} pixels.")
        return size, size


@torch.inference_mode()
def _half_agrees(model: PreTrainedModel, size: tuple[int, int]) -> bool:
    """Whether half precision gives this model's scores to within 0.01 on a fixed noise picture."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, *size, generator=generator)
    try:
        pixels = noise.to(model.device)
        full = model(pixel_values=pixels).logits.sigmoid().amax(-1).sort().values
        half_model = copy.deepcopy(model).half()
        half = half_model(pixel_values=pixels.half()).logits.float().sigmoid().amax(-1)
    except RuntimeError:
        return False
    return bool((half.sort().values - full).abs().max() < 0.01)
