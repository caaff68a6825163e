"""Measures loaded detectors in the background, and makes faster backends ready for them."""

import atexit
import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from ..evaluation.latency import Latency, measure_latency

if TYPE_CHECKING:
    from ..checkpoints.store import ModelStore
    from ..model.detector import Detector

PREPARE_AFTER_REQUESTS = 10
"""A shape that was asked for so often is worth the seconds that it takes to prepare a backend."""

log = logging.getLogger(__name__)


class LatencyWorker:
    """What each checkpoint costs here, per decoder layer, measured when it is loaded.

    `backend`: "auto", "bf16" or "torch", see `settings.Settings.runtime`.
    """

    def __init__(self, backend: str = "auto"):
        self.store: ModelStore | None = None
        self._backend = backend
        self._lock = threading.Lock()
        self._latencies: dict[str, Latency | None] = {}
        self._background: dict[str, threading.Thread] = {}
        self._shapes: Counter[tuple[str, int | None, int | None]] = Counter()
        self._unsupported: set[tuple[str, int | None, int | None]] = set()
        self._preparing = threading.Event()
        self._closing = threading.Event()
        # A pass that runs while Python shuts down would bring the process down with a crash.
        atexit.register(self.close)

    def add(self, detector: "Detector") -> None:
        """Begin to measure a detector that has just been loaded."""
        thread = threading.Thread(target=self._measure, args=(detector,), daemon=True)
        self._background[detector.checkpoint] = thread
        thread.start()

    def remove(self, checkpoint: str) -> None:
        """Forget what was measured of a checkpoint that is no longer loaded."""
        self._latencies.pop(checkpoint, None)

    def latency(self, checkpoint: str) -> Latency | None:
        """What was measured here, or None before that (see `measuring`)."""
        return self._latencies.get(checkpoint)

    def measuring(self, checkpoint: str) -> bool:
        """Whether a measurement of this checkpoint is under way."""
        thread = self._background.get(checkpoint)
        return thread is not None and thread.is_alive()

    def note_shape(self, detector: "Detector", queries: int | None, size: int | None) -> None:
        """Count a request of this shape; one asked for often is prepared, one at a time.

        Raises BadInput for a shape that the checkpoint cannot have.
        """
        if (queries is None and size is None) or self._backend == "torch":
            return
        if detector.is_accelerated(queries, size):
            return
        shape = (detector.checkpoint, queries, size)
        with self._lock:
            self._shapes[shape] += 1
            rare = self._shapes[shape] < PREPARE_AFTER_REQUESTS
            if rare or shape in self._unsupported or self._preparing.is_set():
                return
            self._preparing.set()

        def prepare() -> None:
            half = self._backend == "bf16"
            if not detector.accelerate(queries, size, half=half, stop=self._closing):
                self._unsupported.add(shape)
            self._shapes.clear()
            self._preparing.clear()

        self._background["a shape"] = threading.Thread(target=prepare, daemon=True)
        self._background["a shape"].start()

    def close(self) -> None:
        """Stop measuring and wait for the threads."""
        self._closing.set()
        for thread in list(self._background.values()):
            thread.join()

    def _measure(self, detector: "Detector") -> None:
        name = detector.checkpoint
        try:
            self._latencies[name] = measure_latency(detector, stop=self._closing)
            # What serves now is known, and serves while something faster is made ready.
            if self._backend == "torch" or self._closing.is_set():
                return
            if detector.accelerate(half=self._backend == "bf16", stop=self._closing):
                log.info("%s now runs on %s", name, detector.runtime().name)
                if self.store:
                    self.store.drop_excess(name)
                self._latencies[name] = measure_latency(detector, stop=self._closing)
        except Exception:
            log.exception("latency of %s could not be measured", name)
