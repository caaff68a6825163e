"""The models that one process holds: each once, shared by everyone, measured in the background."""

import atexit
import logging
import statistics
import threading
from collections import Counter, OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from . import hub, metrics
from .checkpoints import BUNDLED
from .errors import CheckpointError

if TYPE_CHECKING:
    from .detector import Detector

ROUNDS = 7
"""Timed passes per depth."""

WORTH = 10
"""A shape that was asked for so often is worth the seconds that it takes to make it ready."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latency:
    """Median milliseconds from picture to detections at each depth; index 0 is one layer."""

    device: str
    runtime: str
    precision: str
    size: tuple[int, int]
    total_ms: tuple[float, ...]

    def to_json(self) -> dict:
        return {
            "device": self.device,
            "runtime": self.runtime,
            "precision": self.precision,
            "size": list(self.size),
            "total_ms": [round(ms, 2) for ms in self.total_ms],
        }


def measure_latency(
    detector: "Detector", rounds: int = ROUNDS, stop: threading.Event | None = None
) -> Latency | None:
    """Time truncated passes of every depth on a 640x480 picture, depths alternating.

    None where `stop` was set before the end.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    depths = range(1, detector.depth + 1)
    runs: list[list[float]] = [[] for _ in depths]
    for turn in range(rounds + 1):
        for depth in depths:
            if stop and stop.is_set():
                return None
            took = detector.detect(image, depth, every_layer=False).timing.total
            if turn > 0:  # the first is for warming up
                runs[depth - 1].append(took)
    return Latency(
        device=str(detector.device),
        runtime=detector.runtime().name,
        precision=detector.precision,
        size=detector.size[::-1],
        total_ms=tuple(statistics.median(times) for times in runs),
    )


class ModelStore:
    """Loaded detectors by checkpoint, the least recently used dropped past `memory_bytes`."""

    def __init__(self, memory_bytes: int, runtime: str = "auto"):
        self._memory_bytes = memory_bytes
        self._runtime = runtime
        self._lock = threading.Lock()
        self._detectors: OrderedDict[str, Future[Detector]] = OrderedDict()
        self._folders: dict[str, Path] = {}
        self._latencies: dict[str, Latency | None] = {}
        self._downloads: dict[str, hub.Download] = {}
        self._background: dict[str, threading.Thread] = {}
        self._shapes: Counter[tuple[str, int | None, int | None]] = Counter()
        self._hopeless: set[tuple[str, int | None, int | None]] = set()
        self._preparing = threading.Event()
        self._closing = threading.Event()
        # A pass that runs while Python shuts down would bring the process down with a crash.
        atexit.register(self.close)

    def name_folder(self, folder: Path) -> str:
        """Serve a folder of this machine under its own name; gives that name."""
        name = folder.resolve().name
        self._folders[name] = folder
        return name

    def is_here(self, checkpoint: str) -> bool:
        """Whether it can be loaded without the hub."""
        return self._folder(checkpoint) is not None

    def _folder(self, checkpoint: str) -> Path | None:
        return self._folders.get(checkpoint) or hub.local_folder(checkpoint)

    def get(self, checkpoint: str) -> "Detector":
        """The detector, loaded now if need be. Raises CheckpointError where it is not here."""
        with self._lock:
            future = self._detectors.get(checkpoint)
            if future is not None:
                self._detectors.move_to_end(checkpoint)
            else:
                mine = self._detectors[checkpoint] = Future()
        if future is not None:
            return future.result()
        try:
            folder = self._folder(checkpoint)
            if folder is None:
                raise CheckpointError(
                    f"{checkpoint} is not on this machine yet. Download it first, or choose "
                    "the bundled checkpoint."
                )
            # PyTorch and transformers take seconds to import, and a page must not wait for that.
            from .detector import Detector

            detector = Detector.load(checkpoint, folder)
        except BaseException as error:
            with self._lock:
                del self._detectors[checkpoint]
            mine.set_exception(error)
            raise
        metrics.MODEL_LOADS.labels(checkpoint).inc()
        log.info("loaded %s on %s, %s", checkpoint, detector.device, detector.precision)
        measuring = threading.Thread(target=self._measure, args=(detector,), daemon=True)
        self._background[checkpoint] = measuring
        measuring.start()
        mine.set_result(detector)
        self._drop_excess(checkpoint)
        return detector

    def note_shape(self, detector: "Detector", queries: int | None, size: int | None) -> None:
        """A picture of this shape is asked for; one asked for often is made ready, one at a time.

        Raises BadInput for a shape that the checkpoint cannot have.
        """
        if (queries is None and size is None) or self._runtime == "torch":
            return
        if detector.is_accelerated(queries, size):
            return
        shape = (detector.checkpoint, queries, size)
        with self._lock:
            self._shapes[shape] += 1
            if self._shapes[shape] < WORTH or shape in self._hopeless or self._preparing.is_set():
                return
            self._preparing.set()

        def prepare() -> None:
            half = self._runtime == "bf16"
            if not detector.accelerate(queries, size, half=half, stop=self._closing):
                self._hopeless.add(shape)
            self._shapes.clear()
            self._preparing.clear()

        self._background["a shape"] = threading.Thread(target=prepare, daemon=True)
        self._background["a shape"].start()

    def close(self) -> None:
        """Stop measuring."""
        self._closing.set()
        for thread in list(self._background.values()):
            thread.join()

    def latency(self, checkpoint: str) -> Latency | None:
        """What was measured here, or None before that (see `measuring`)."""
        return self._latencies.get(checkpoint)

    def measuring(self, checkpoint: str) -> bool:
        """Whether a measurement is under way, or about to begin because the model is loading."""
        with self._lock:
            future = self._detectors.get(checkpoint)
        thread = self._background.get(checkpoint)
        return (future is not None and not future.done()) or (
            thread is not None and thread.is_alive()
        )

    def loaded(self) -> list[str]:
        with self._lock:
            return [name for name, future in self._detectors.items() if future.done()]

    def download(self, checkpoint: str) -> hub.Download:
        """Fetch from the hub; a download under way is joined, not begun again."""
        with self._lock:
            current = self._downloads.get(checkpoint)
            if current is None or not current.running:
                current = self._downloads[checkpoint] = hub.Download(checkpoint)
            return current

    def downloading(self, checkpoint: str) -> hub.Download | None:
        """The latest download of this checkpoint in this process, running or ended."""
        return self._downloads.get(checkpoint)

    def _measure(self, detector: "Detector") -> None:
        try:
            self._latencies[detector.checkpoint] = measure_latency(detector, stop=self._closing)
            # What serves now is known, and serves while something faster is made ready.
            if self._runtime == "torch" or self._closing.is_set():
                return
            if detector.accelerate(half=self._runtime == "bf16", stop=self._closing):
                log.info("%s now runs on %s", detector.checkpoint, detector.runtime().name)
                self._drop_excess(detector.checkpoint)
                self._latencies[detector.checkpoint] = measure_latency(detector, stop=self._closing)
        except Exception:
            log.exception("latency of %s could not be measured", detector.checkpoint)

    def _drop_excess(self, keep: str) -> None:
        with self._lock:
            held = {
                name: future.result().memory_bytes
                for name, future in self._detectors.items()
                if future.done() and not future.exception()
            }
            for name in list(held):
                if sum(held.values()) <= self._memory_bytes:
                    return
                # The bundled one is small, and what serves when nothing else can.
                if name not in (keep, BUNDLED):
                    del self._detectors[name], held[name]
                    self._latencies.pop(name, None)
                    log.info("dropped %s to stay within the memory limit", name)
