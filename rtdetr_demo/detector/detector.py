"""From a picture to predictions: one loaded RT-DETR on one device."""

import copy
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from cachetools import LRUCache
from PIL import Image
from transformers import PreTrainedModel, RTDetrImageProcessorPil
from transformers.utils import logging as transformers_logging

from ..cpus import cpu_quota
from ..errors import BadInput, Busy, Cancelled, CheckpointError
from ..predictions import Predictions, Timing, check_depth, is_whole
from ..zero_gpu import is_zero_gpu
from .backends import Runtime, TorchBackend
from .cuda_graphs import CudaGraphBackend
from .devices import Stopwatch, best_device, lent_gpu, wait_for, within_memory
from .fusion import fuse
from .network import SHAPES, StagedRTDetr, fits_pyramid, token_count
from .openvino import OpenVinoBackend
from .parity import Reference, check_stages, place, reference_of
from .postprocess import topk_postprocess
from .preprocess import Preprocess
from .reading import class_names, load_failure, read_checkpoint
from .scheduler import DEVICE_LOCK

# The page and the log say what is going on; bars on the console would only break their lines.
transformers_logging.disable_progress_bar()
# A container may have fewer processors than its host, which PyTorch counts.
torch.set_num_threads(min(torch.get_num_threads(), cpu_quota()))

log = logging.getLogger(__name__)

SMALLEST = 128


class Detector:
    """An RT-DETR or RT-DETRv2 that detects; safe to share between threads."""

    def __init__(
        self,
        checkpoint: str,
        model: PreTrainedModel,
        processor: RTDetrImageProcessorPil,
        device: torch.device | None = None,
    ):
        """Take a float32 `model` on the CPU. Raises CheckpointError where it cannot run here."""
        self.checkpoint = checkpoint
        self.folder: Path | None = None
        """Where its files lie, if it was loaded from some."""
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
        self._backends: dict[tuple[int, tuple[int, int]], Runtime] = {}
        self._plain: LRUCache[int, TorchBackend] = LRUCache(SHAPES)
        self._plain_guard = threading.Lock()
        self._preparing = threading.Lock()
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
        self._gpu_model = copy.deepcopy(self.model).to("cuda")  # type: ignore[arg-type]

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
        self._backends.clear()
        self._on_gpu = True

    @property
    def memory_bytes(self) -> int:
        """Bytes that the weights take: once for PyTorch, and once for each prepared backend."""
        once = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return once * (1 + len(self._backends))

    @property
    def tokens(self) -> int:
        """Feature-map positions of one picture that the decoder can attend to."""
        return token_count(self.model.config, *self.size)

    @property
    def query_range(self) -> tuple[int, int]:
        """The fewest and the most queries that a pass may have."""
        return min(10, self.queries), self.queries

    @property
    def size_range(self) -> tuple[int, int]:
        """The least and the largest input size in pixels; the least has a cell for each query."""
        largest = max(640, *self.size)
        sides = range(SMALLEST, largest + 1, 32)
        config = self.model.config
        fitting = (side for side in sides if token_count(config, side, side) >= self.queries)
        return next(fitting, largest), largest

    @property
    def precision(self) -> str:
        """The weights' dtype, such as "float32"."""
        return str(self.model.dtype).removeprefix("torch.")

    def accelerate(
        self,
        queries: int | None = None,
        size: int | None = None,
        *,
        half: bool = False,
        stop: threading.Event | None = None,
    ) -> bool:
        """Prepare OpenVINO for a shape on a CPU, if it is installed; takes some seconds.

        PyTorch serves until then, and goes on where this gives False. `half`: in bfloat16. A thread
        that does this must be stopped by `stop` and joined before Python ends.
        """
        key = self._key(queries, size)
        if self.device.type != "cpu":
            return False
        with self._preparing:  # nothing is made ready twice
            if key in self._backends:
                return True
            ready = (half and self._openvino(key, True, stop)) or self._openvino(key, False, stop)
            if not ready:
                return False
            with DEVICE_LOCK:
                for other in [one for one in self._backends if one != self._key(None, None)]:
                    del self._backends[other]  # one shape beside the checkpoint's own is kept
                self._backends[key] = ready
            return True

    def is_accelerated(self, queries: int | None = None, size: int | None = None) -> bool:
        """Whether a prepared backend runs this number of queries at this input size."""
        return self._key(queries, size) in self._backends

    def _openvino(
        self, key: tuple[int, tuple[int, int]], half: bool, stop: threading.Event | None
    ) -> OpenVinoBackend | None:
        try:
            return OpenVinoBackend(StagedRTDetr(self.model, key[0]).eval(), key[1], half, stop)
        except (ImportError, Cancelled):
            return None
        except Exception as error:
            # A compiler has no end of ways to fail, and PyTorch serves as well.
            log.warning("OpenVINO does not run %s: %s", self.checkpoint, error)
            return None

    def runtime(self, queries: int | None = None, size: int | None = None) -> Runtime:
        """The backend that runs this number of queries at this input size at present."""
        return self._backends.get(self._key(queries, size)) or self.torch_backend(queries)

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

    def prepare(
        self, images: Sequence[Image.Image], size: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """Preprocess RGB pictures to the model's input: [batch, 3, height, width] on the device."""
        with torch.inference_mode():
            return self.preprocess(images, self.model.dtype, size)

    def run_model(self, pixels: torch.Tensor) -> None:
        """Run the network alone, at full depth, on the tensor that `prepare` returned."""
        with DEVICE_LOCK, torch.inference_mode():
            self.runtime().run(pixels, self.depth, False)
            wait_for(self.device)

    def _key(self, queries: int | None, size: int | None) -> tuple[int, tuple[int, int]]:
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
        count, side = self.check_queries(queries), None if size is None else self.check_size(size)

        def run(some: Sequence[Image.Image]) -> list[Predictions]:
            return self._detect_pass(some, depth, queries, size, every_layer)

        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(self.preprocess.input_size(image, side), []).append(i)
        found: dict[int, Predictions] = {}
        for shape, numbers in by_size.items():
            self._check_shape(shape, count)
            alike = [images[i] for i in numbers]
            made = within_memory(run, alike, self.device, self._release)
            found.update(zip(numbers, made, strict=True))
        return [found[i] for i in range(len(images))]

    def _release(self) -> None:
        with self._plain_guard:
            for backend in self._plain.values():
                backend.release()

    def _detect_pass(
        self,
        images: Sequence[Image.Image],
        depth: int,
        queries: int | None,
        size: int | None,
        every_layer: bool,
    ) -> list[Predictions]:
        side = None if size is None else self.check_size(size)
        if side is None and self.preprocess.varies:
            runtime: Runtime = self.torch_backend(queries)  # others are compiled for one size
        else:
            runtime = self.runtime(queries, size)
        with DEVICE_LOCK, torch.inference_mode():
            watch = Stopwatch(self.device)
            pixels = self.preprocess(images, self.model.dtype, side)
            watch.mark()
            output = runtime.run(pixels, depth, every_layer)
            watch.mark()
            candidates = topk_postprocess(*output)
            scores, labels, ranked, boxes = (part.cpu().numpy() for part in candidates)
            watch.mark()
            took = watch.milliseconds()
        timing = Timing(*(ms / len(images) for ms in took))
        return [
            Predictions(
                checkpoint=self.checkpoint,
                class_names=self.class_names,
                width=image.width,
                height=image.height,
                scores=scores[i],
                labels=labels[i],
                queries=ranked[i],
                boxes=boxes[i] * np.array([image.width, image.height] * 2, dtype=np.float32),
                timing=timing,
                first=1 if every_layer else depth,
            )
            for i, image in enumerate(images)
        ]

    def _check_shape(self, shape: tuple[int, int], queries: int) -> None:
        """Raises BadInput for an input that a picture of unusual proportions has become."""
        if not self.preprocess.varies:
            return
        config, (height, width) = self.model.config, shape
        if not fits_pyramid(config, height, width) or token_count(config, *shape) < queries:
            raise BadInput(
                f"{self.checkpoint} keeps a picture's proportions, which makes this one {width} x "
                f"{height} pixels, and its network needs multiples of {max(config.feat_strides)}. "
                "Choose an input size, or give height and width in its preprocessor_config.json."
            )

    def stage_times(self, image: Image.Image) -> dict[str, float]:
        """Milliseconds of each stage of one full pass, with the checkpoint's own queries and size.

        Keys, in order: preprocess, backbone, encoder, "decoder layer 1" and so on, postprocess.
        """
        runtime = self.torch_backend() if self.preprocess.varies else self.runtime()
        names = ["preprocess"]
        with DEVICE_LOCK, torch.inference_mode():
            watch = Stopwatch(self.device)
            pixels = self.preprocess(
                [image], self.model.dtype, self.size if self.preprocess.varies else None
            )
            watch.mark()
            for name, step in runtime.steps(pixels):
                names.append(name)
                step()
                watch.mark()
            output = runtime.run(pixels, self.depth, False)
            names.append("last pass")  # only made for its output
            watch.mark()
            for part in topk_postprocess(*output):
                part.cpu()
            names.append("postprocess")
            watch.mark()
            times = dict(zip(names, watch.milliseconds(), strict=True))
        del times["last pass"]
        # The encoding stage begins with the backbone.
        times["encoder"] = max(times["encoder"] - times["backbone"], 0.0)
        return times

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
