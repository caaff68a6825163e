"""What one running demo knows: its settings, its models, and which checkpoint serves."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .. import metrics
from ..checkpoints import hub
from ..checkpoints.catalog import BUNDLED, is_listed
from ..checkpoints.store import ModelStore
from ..errors import Cancelled, CheckpointError, DemoError, Forbidden
from ..evaluation.latency import Latency, measure_latency
from ..media.decoder_pool import DecoderPool
from ..media.fetch import fetch
from ..predictions import Predictions
from ..settings import Settings
from ..video.options import Options
from ..video.runner import FrameDetector, with_detector
from ..zero_gpu import gpu_task, is_zero_gpu
from .latency_worker import LatencyWorker
from .scheduler import Queue
from .scratch import Scratch

if TYPE_CHECKING:
    from ..detector.detector import Detector
    from ..detector.inspection import Inspection

WORKERS = 3
"""Pictures under way at once on a CPU: one in the model, one before it, one after."""

OWN_FETCHES = 4
"""Addresses that are fetched at once for one visitor."""

OWN_LOADS = 32
"""Requests of one visitor that may wait for a checkpoint to be loaded."""

log = logging.getLogger(__name__)

GPU_TASK_SECONDS = 20
"""What one call on a ZeroGPU Space may take: a visitor has minutes a day."""
GPU_TASK_FRAMES = 48
"""Frames of a video that go into one such call."""


class Service:
    """Serves at once with what is here, and moves on to the wanted checkpoint when it arrives."""

    passes = 1
    """How many may be under way at once: there is one device."""

    def __init__(self, settings: Settings, scratch: Scratch | None = None):
        self.settings = settings
        self.scratch = scratch or Scratch(settings.data_dir)
        self.pictures = DecoderPool()
        self.store_bytes = settings.data_gb * 2**30 / 3
        """What uploads may take on the disk; results and videos as much again each."""
        self.queue = Queue(settings.api_queue, settings.api_share)
        self.queue.start_workers(WORKERS)
        self._began: dict[str, str] = {}
        self.latencies = LatencyWorker(settings.runtime)
        self.store = ModelStore(
            int(settings.model_memory_gb * 2**30),
            # A GPU is not asked for while nobody looks: the first call measures.
            (lambda _: None) if is_zero_gpu() else self.latencies.add,
            self.latencies.remove,
        )
        self.latencies.store = self.store
        if is_zero_gpu():
            os.register_at_fork(after_in_child=self.store.forget_threads)
        self.wanted = settings.checkpoint
        if os.path.isdir(settings.checkpoint):
            # Visitors see a name, not where on this machine the operator keeps it.
            self.wanted = self.store.name_folder(Path(settings.checkpoint))
        self.active = self.wanted if self.store.is_here(self.wanted) else BUNDLED
        self.searching = True
        self._run = gpu_task(self._detect, GPU_TASK_SECONDS)
        self._run_recorded = gpu_task(self._inspect, GPU_TASK_SECONDS)
        self.notice = "" if self.active == self.wanted else f"Looking for {self.wanted} on the hub."

    def preload_gpu_copy(self) -> None:
        """On a ZeroGPU Space: load what serves first, and preload it on every GPU that is given.

        To be called in the main thread, before the page opens.
        """
        try:
            detector = self.store.get(self.active)
        except DemoError as error:
            self._serve_bundled(error)
            detector = self.store.get(BUNDLED)
        detector.preload_gpu_copy()

    def start(self) -> None:
        """Load what serves, and look for what is wanted, in the background."""
        threading.Thread(target=self.pictures.start, name="decoders", daemon=True).start()
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def _start(self) -> None:
        try:
            self.store.get(self.active)
            if self.active != self.wanted:
                self.try_hub(self.wanted)
        except DemoError as error:
            self._serve_bundled(error)
        finally:
            self.searching = False

    def _serve_bundled(self, reason: DemoError) -> None:
        self.notice = f"{reason} The bundled checkpoint serves instead of {self.wanted}."
        log.info(self.notice)
        self.active = BUNDLED
        self.store.get(BUNDLED)

    def detect(
        self,
        image: Image.Image,
        checkpoint: str | None = None,
        decoder_layers: int | None = None,
        **shape: Any,
    ) -> Predictions:
        """Detect in an RGB picture, by default with what serves and at full depth.

        `shape`: `queries`, `size` and `every_layer` of `Detector.detect`.

        Raises CheckpointError for a checkpoint that is unknown, barred or absent, and BadInput for
        decoder layers outside 1 to its depth.
        """
        return self.detect_batch([image], checkpoint, decoder_layers, **shape)[0]

    def detect_batch(
        self,
        images: Sequence[Image.Image],
        checkpoint: str | None = None,
        decoder_layers: int | None = None,
        **shape: Any,
    ) -> list[Predictions]:
        """Detect in several pictures in one pass; the rest as in `detect`."""
        detector = self.detector(checkpoint)  # loaded here: what ZeroGPU runs is a copy
        self.latencies.note_shape(detector, shape.get("queries"), shape.get("size"))
        began = time.perf_counter()
        measure = is_zero_gpu() and self.latencies.latency(detector.checkpoint) is None
        found, latency = self._run(detector.checkpoint, images, decoder_layers, shape, measure)
        if latency is not None:
            self.latencies.record(detector.checkpoint, latency)
        metrics.observe_pass(time.perf_counter() - began, [one.timing for one in found])
        return found

    def _detect(
        self,
        checkpoint: str,
        images: Sequence[Image.Image],
        decoder_layers: int | None,
        shape: dict,
        measure: bool,
    ) -> tuple[list[Predictions], Latency | None]:
        """Runs where the GPU is: on a ZeroGPU Space in a copy of this process."""
        detector = self._on_gpu(checkpoint)
        found = detector.detect_batch(images, decoder_layers, **shape)
        return found, measure_latency(detector) if measure else None

    def _on_gpu(self, checkpoint: str) -> "Detector":
        detector = self.store.get(checkpoint)
        if is_zero_gpu():
            detector.to_gpu()
        return detector

    def frame_detector(self, detector: "Detector", options: Options) -> FrameDetector:
        """What finds objects in the frames of a video, in as many calls as the device wants."""
        if not is_zero_gpu():
            return with_detector(detector, options)

        def detect(images: Sequence[Image.Image]) -> list[Predictions]:
            return self.detect_batch(
                images,
                detector.checkpoint,
                options.decoder_layers,
                queries=options.queries,
                size=options.size,
                every_layer=False,
            )

        return FrameDetector(detector.class_names, detect, GPU_TASK_FRAMES)

    def inspect(
        self,
        image: Image.Image,
        checkpoint: str | None = None,
        queries: int | None = None,
        size: int | None = None,
    ) -> "Inspection":
        """Run one recorded pass; arguments and errors as in `detect`."""
        return self._run_recorded(self.detector(checkpoint).checkpoint, image, queries, size)

    def _inspect(
        self, checkpoint: str, image: Image.Image, queries: int | None, size: int | None
    ) -> "Inspection":
        from ..detector.inspection import inspect

        return inspect(self._on_gpu(checkpoint), image, queries=queries, size=size)

    def detector(self, checkpoint: str | None = None) -> "Detector":
        """The detector to use. Raises CheckpointError for one that is unknown, barred or absent."""
        name = self.check(checkpoint or self.active)
        if name in self.store.loaded():
            return self.store.get(name)
        with self.queue.slot_released(OWN_LOADS):
            return self.store.get(name)

    def fetch(self, url: str) -> bytes:
        """The bytes behind a web address, as `media.fetch`; other work runs meanwhile.

        Raises TooManyRequests where one client has `OWN_FETCHES` under way.
        """
        with self.queue.slot_released(OWN_FETCHES):
            return fetch(url, self.settings.allowed_hosts)

    def loading(self, checkpoint: str) -> bool:
        """Whether the checkpoint is on its way into memory."""
        return self.store.is_loading(checkpoint)

    def check(self, checkpoint: str) -> str:
        """Give the name back if a visitor may use it."""
        if not isinstance(checkpoint, str) or not (
            self.settings.any_checkpoint
            or checkpoint in (self.wanted, self.active)
            or is_listed(checkpoint)
        ):
            raise CheckpointError(
                f"“{str(checkpoint)[:100]}” is not on this demo's list. Choose one from the list, "
                "or start the demo yourself with --any-checkpoint."
            )
        return checkpoint

    def cancel_download(self, checkpoint: str, visitor: str) -> None:
        """Stop the download of a checkpoint, for whoever began it.

        On a demo for this machine alone every visitor is its operator. Raises Forbidden for others.
        """
        download = self.store.downloading(self.check(checkpoint))
        if download is None:
            return
        if not self.settings.is_local and self._began.get(checkpoint) != visitor:
            raise Forbidden("Someone else began this download, so only they can stop it.")
        download.cancel()

    def try_hub(self, checkpoint: str, visitor: str = "") -> None:
        """Ask the hub for a checkpoint and, if it answers, begin the download. Does not wait.

        `visitor`: the address of who wants it; "": the operator.
        """
        if self.store.is_here(checkpoint):
            return
        with self.queue.slot_released(OWN_FETCHES):
            reason = hub.why_unreachable(checkpoint)
        if reason:
            raise CheckpointError(reason)
        download, is_new = self.store.download(checkpoint)
        if is_new:
            self._began[checkpoint] = visitor
            threading.Thread(target=self._arrive, args=(download,), daemon=True).start()

    def _arrive(self, download: hub.Download) -> None:
        wanted = download.checkpoint == self.wanted
        if wanted:
            self.notice = f"{self.wanted} is on its way; the bundled checkpoint serves until then."
        try:
            download.wait()
            self.store.get(download.checkpoint)
        except (CheckpointError, Cancelled) as error:
            log.info("%s did not arrive: %s", download.checkpoint, error)
            if wanted and self.active != self.wanted:
                self._serve_bundled(error)
        else:
            if wanted:
                self.active, self.notice = self.wanted, ""
