"""The parts of one running server, wired together."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..checkpoints.active import Checkpoints
from ..engine.devices import ZERO_GPU_SECONDS, ZeroGpuDevice
from ..engine.engine import Engine
from ..engine.requests import Params
from ..errors import DemoError
from ..evaluation.latency import Latency, measure_latency
from ..predictions import Predictions
from ..settings import Settings
from ..video.options import Options
from ..video.runner import FrameDetector
from ..zero_gpu import gpu_task, is_zero_gpu
from .jobs import Jobs
from .latency_monitor import LatencyMonitor
from .scratch import Scratch

if TYPE_CHECKING:
    from ..detector.detector import Detector

log = logging.getLogger(__name__)


class Service:
    """What the page, the API and their jobs share.

    Attributes:
        checkpoints: Which checkpoint is active, and which ones may be used.
        engine: Runs every request.
        latencies: What each checkpoint costs here.
        store_bytes: Bytes that uploads may take on the disk; results and videos as much again
            each.
    """

    def __init__(self, settings: Settings, scratch: Scratch | None = None):
        self.settings = settings
        self.scratch = scratch or Scratch(settings.data_dir)
        self.store_bytes = settings.data_gb * 2**30 / 3
        self.latencies = LatencyMonitor(
            settings.runtime,
            lambda turn, stop: self.engine.run_when_idle(turn, stop),
            lambda name: self.checkpoints.store.drop_excess(name),
        )
        self.checkpoints = Checkpoints(settings, self._on_load, self.latencies.remove)
        store = self.checkpoints.store
        self._zero_gpu = ZeroGpuDevice(store) if is_zero_gpu() else None
        self._measured: set[str] = set()
        self._jobs: list[Jobs] = []
        self._measure = gpu_task(self._measure_in_call, ZERO_GPU_SECONDS)
        if is_zero_gpu():
            os.register_at_fork(after_in_child=store.forget_threads)
        self.engine = Engine(
            self.checkpoints.request,
            self._zero_gpu,
            capacity=settings.api_queue,
            share=settings.api_share,
            allowed_hosts=settings.allowed_hosts,
            on_request=self._measure_on_zero_gpu if is_zero_gpu() else self.latencies.note_request,
        )

    def preload_gpu_copy(self) -> None:
        """On a ZeroGPU Space: load the active checkpoint, and preload it on every GPU that is lent.

        Must be called in the main thread, before the page opens.
        """
        self.checkpoints.load_active().preload_gpu_copy()

    def start(self) -> None:
        """Start the decoders and load the active checkpoint, in the background."""
        threading.Thread(target=self.engine.decoders.start, name="decoders", daemon=True).start()
        self.checkpoints.start()

    def frame_detector(self, client: str, detector: "Detector", options: Options) -> FrameDetector:
        """What detects in the frames of a client's video."""
        params = Params(
            detector.checkpoint,
            options.decoder_layers,
            options.queries,
            options.size,
            every_layer=False,
        )

        def detect(images: Sequence[Image.Image]) -> list[Predictions]:
            pending = [self.engine.submit(client, image, params) for image in images]
            return [request.result() for request in pending]

        return FrameDetector(detector.class_names, detect, self.engine.device.batch_limit(detector))

    def make_jobs(self, what: str, **limits: Any) -> Jobs:
        """A set of background jobs that ends with this service; arguments as for `Jobs`."""
        self._jobs.append(Jobs(self.scratch, what, **limits))
        return self._jobs[-1]

    def begin_shutdown(self, decode_seconds: float) -> None:
        """Take on nothing more, and have jobs end; pictures have `decode_seconds` left to be
        opened."""
        self.engine.admission.close()
        self.engine.decoders.limit_time(decode_seconds)
        for jobs in self._jobs:
            jobs.stop()

    def close(self, deadline: float | None = None) -> None:
        """End every thread and child process; the scratch folder stays until the process ends.

        Args:
            deadline: Until when to wait for work that is under way, on the clock of
                `time.monotonic`; by default five seconds from now.
        """
        deadline = time.monotonic() + 5.0 if deadline is None else deadline
        for jobs in self._jobs:
            jobs.close(deadline)
        self.latencies.close(deadline)
        self.engine.close(deadline)

    def _measure_on_zero_gpu(self, detector: "Detector", params: Params) -> None:
        """After a checkpoint's first request: measure it in a call of its own, of no visitor."""
        name = detector.checkpoint
        if name in self._measured:
            return
        self._measured.add(name)

        def work() -> None:
            try:
                latency = self.engine.run_when_idle(lambda: self._measure(name))
                self.latencies.record(name, latency)
            except DemoError as error:
                log.info("latency of %s could not be measured: %s", name, error)
                self._measured.discard(name)

        threading.Thread(target=work, name="measure", daemon=True).start()

    def _measure_in_call(self, checkpoint: str) -> Latency:
        assert self._zero_gpu is not None, "only called on a ZeroGPU Space"
        return measure_latency(self._zero_gpu.on_gpu(checkpoint))

    def _on_load(self, detector: "Detector") -> None:
        if not is_zero_gpu():  # there the GPU is lent to visitors' calls only
            self.latencies.add(detector)
