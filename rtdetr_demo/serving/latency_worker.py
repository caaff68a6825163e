"""Measures loaded detectors in the background, and makes faster backends ready for them."""

import atexit
import logging
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING

from ..errors import Cancelled
from ..evaluation.latency import Latency, measure_latency

if TYPE_CHECKING:
    from ..checkpoints.store import ModelStore
    from ..model.detector import Detector

PREPARE_AFTER_REQUESTS = 10
"""A shape that was asked for so often is worth the seconds that it takes to prepare a backend."""

IDLE_SECONDS = 30.0
"""Nobody has asked for so long: the machine may be idle, and a measurement worth repeating."""

REPEATS = 2
"""Measurements of a checkpoint in idle times, after the first."""

log = logging.getLogger(__name__)


class LatencyWorker:
    """What each checkpoint costs here, per decoder layer, measured when it is loaded, and again
    when nobody asks for anything; of one backend's measurements the fastest is kept.

    `backend`: "auto", "bf16" or "torch", see `settings.Settings.runtime`.
    """

    def __init__(self, backend: str = "auto"):
        self.store: ModelStore | None = None
        self._backend = backend
        self._lock = threading.Lock()
        self._latencies: dict[str, Latency] = {}
        self._background: dict[str, threading.Thread] = {}
        self._repeats: dict[str, tuple[weakref.ref[Detector], int]] = {}
        self._last_request = time.monotonic()
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
        self._repeats[detector.checkpoint] = weakref.ref(detector), REPEATS
        if "repeats" not in self._background:
            self._background["repeats"] = threading.Thread(target=self._repeat, daemon=True)
            self._background["repeats"].start()

    def remove(self, checkpoint: str) -> None:
        """Forget what was measured of a checkpoint that is no longer loaded."""
        self._latencies.pop(checkpoint, None)
        self._repeats.pop(checkpoint, None)

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
        self._last_request = time.monotonic()
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
            self._keep(name, measure_latency(detector, stop=self._closing))
            # What serves now is known, and serves while something faster is made ready.
            if self._backend == "torch" or self._closing.is_set():
                return
            if detector.accelerate(half=self._backend == "bf16", stop=self._closing):
                log.info("%s now runs on %s", name, detector.runtime().name)
                if self.store:
                    self.store.drop_excess(name)
                self._keep(name, measure_latency(detector, stop=self._closing))
        except Cancelled:
            pass
        except Exception:
            log.exception("latency of %s could not be measured", name)

    def _keep(self, name: str, new: Latency) -> None:
        old = self._latencies.get(name)
        if not old or old.runtime != new.runtime or new.total_ms[-1] < old.total_ms[-1]:
            self._latencies[name] = new

    def _repeat(self) -> None:
        while not self._closing.wait(IDLE_SECONDS):
            for name in list(self._repeats):
                if time.monotonic() - self._last_request > IDLE_SECONDS:
                    self._measure_again(name)

    def _measure_again(self, name: str) -> None:
        reference, left = self._repeats.get(name, (None, 0))
        detector = reference and reference()
        if not (left and detector and reference) or self.measuring(name):
            return
        self._repeats[name] = reference, left - 1
        try:
            self._keep(name, measure_latency(detector, stop=self._closing))
        except Cancelled:
            pass
        except Exception:
            log.exception("latency of %s could not be measured", name)
