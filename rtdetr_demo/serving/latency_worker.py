"""Measures loaded detectors in the background, and makes faster backends ready for them."""

import atexit
import logging
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import Cancelled
from ..evaluation.latency import Latency, measure_latency

if TYPE_CHECKING:
    from ..checkpoints.store import ModelStore
    from ..detector.detector import Detector

PREPARE_AFTER_REQUESTS = 10
"""A shape that was asked for so often is worth the seconds that it takes to prepare a backend."""

IDLE_SECONDS = 30.0
"""Nobody has asked for so long: the machine may be idle, and a measurement worth repeating."""

REPEATS = 2
"""Measurements of a checkpoint in idle times, after the first."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Subject:
    """A detector to measure, which this does not keep in memory, and how to stop that."""

    detector: "weakref.ref[Detector]"
    stop: threading.Event = field(default_factory=threading.Event)
    measuring: bool = True
    repeats: int = REPEATS


class LatencyWorker:
    """What each checkpoint costs here, per decoder layer, measured when it is loaded, and again
    when nobody asks for anything; of one backend's measurements the fastest is kept.

    One thread does all of this, so that measurements do not disturb each other. `backend`: "auto",
    "bf16" or "torch", see `settings.Settings.runtime`.
    """

    def __init__(self, backend: str = "auto"):
        self.store: ModelStore | None = None
        self._backend = backend
        self._changed = threading.Condition()
        self._latencies: dict[str, Latency] = {}
        self._subjects: dict[str, _Subject] = {}
        self._work: deque[Callable[[], None]] = deque()
        self._last_request = time.monotonic()
        self._shapes: Counter[tuple[str, int | None, int | None]] = Counter()
        self._unsupported: set[tuple[str, int | None, int | None]] = set()
        self._preparing = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        # A pass that runs while Python shuts down would bring the process down with a crash.
        atexit.register(self.close)

    def add(self, detector: "Detector") -> None:
        """Begin to measure a detector that has just been loaded."""
        name, subject = detector.checkpoint, _Subject(weakref.ref(detector))
        self.remove(name)
        with self._changed:
            self._subjects[name] = subject
        self._submit(lambda: self._measure(name, subject))

    def remove(self, checkpoint: str) -> None:
        """Forget what was measured of a checkpoint that is no longer loaded, and stop."""
        with self._changed:
            self._latencies.pop(checkpoint, None)
            if subject := self._subjects.pop(checkpoint, None):
                subject.stop.set()
            for shape in [one for one in self._shapes if one[0] == checkpoint]:
                del self._shapes[shape]
            self._unsupported = {one for one in self._unsupported if one[0] != checkpoint}

    def latency(self, checkpoint: str) -> Latency | None:
        """What was measured here, or None before that (see `measuring`)."""
        return self._latencies.get(checkpoint)

    def record(self, checkpoint: str, latency: Latency) -> None:
        """Keep what was measured elsewhere, inside a call."""
        with self._changed:
            self._latencies[checkpoint] = latency

    def measuring(self, checkpoint: str) -> bool:
        """Whether a measurement of this checkpoint is under way."""
        subject = self._subjects.get(checkpoint)
        return subject is not None and subject.measuring

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
        with self._changed:
            subject = self._subjects.get(detector.checkpoint)
            self._shapes[shape] += 1
            rare = self._shapes[shape] < PREPARE_AFTER_REQUESTS
            if subject is None or rare or shape in self._unsupported or self._preparing.is_set():
                return
            self._preparing.set()
        self._submit(lambda: self._prepare(subject, shape))

    def close(self) -> None:
        """Stop measuring and wait for the thread."""
        with self._changed:
            self._closing = True
            for subject in self._subjects.values():
                subject.stop.set()
            self._changed.notify_all()
        if self._thread:
            self._thread.join()

    def _submit(self, work: Callable[[], None]) -> None:
        with self._changed:
            self._work.append(work)
            self._changed.notify_all()
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="measure", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._closing, IDLE_SECONDS)
                if self._closing:
                    return
                work = self._work.popleft() if self._work else self._repeat
            work()
            del work

    def _measure(self, name: str, subject: _Subject) -> None:
        try:
            detector = subject.detector()
            if detector is None or subject.stop.is_set():
                return
            self._keep(name, subject, measure_latency(detector, stop=subject.stop))
            # What serves now is known, and serves while something faster is made ready.
            if self._backend == "torch" or subject.stop.is_set():
                return
            if detector.accelerate(half=self._backend == "bf16", stop=subject.stop):
                log.info("%s now runs on %s", name, detector.runtime().name)
                if self.store:
                    self.store.drop_excess(name)
                self._keep(name, subject, measure_latency(detector, stop=subject.stop))
        except Cancelled:
            pass
        except Exception:
            log.exception("latency of %s could not be measured", name)
        finally:
            subject.measuring = False

    def _prepare(self, subject: _Subject, shape: tuple[str, int | None, int | None]) -> None:
        ready = False
        try:
            if detector := subject.detector():
                half = self._backend == "bf16"
                ready = detector.accelerate(*shape[1:], half=half, stop=subject.stop)
        except Exception:
            log.exception("%s could not be prepared for %s, %s", *shape)
        finally:
            with self._changed:
                if not ready:
                    self._unsupported.add(shape)
                self._shapes.clear()
                self._preparing.clear()

    def _keep(self, name: str, subject: _Subject, new: Latency) -> None:
        with self._changed:
            if subject.stop.is_set():
                return
            old = self._latencies.get(name)
            if not old or old.runtime != new.runtime or new.total_ms[-1] < old.total_ms[-1]:
                self._latencies[name] = new

    def _repeat(self) -> None:
        for name, subject in list(self._subjects.items()):
            is_idle = time.monotonic() - self._last_request > IDLE_SECONDS
            detector = subject.detector()
            if not (is_idle and subject.repeats and detector) or self._work:
                continue
            subject.repeats -= 1
            try:
                self._keep(name, subject, measure_latency(detector, stop=subject.stop))
            except Cancelled:
                pass
            except Exception:
                log.exception("latency of %s could not be measured", name)
