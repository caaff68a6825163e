"""Measures detectors while a server is idle, and prepares faster runtimes for them."""

import atexit
import logging
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..engine.requests import Params
from ..errors import Cancelled
from ..evaluation.latency import Latency, measure_latency

if TYPE_CHECKING:
    from ..detector.detector import Detector

PREPARE_AFTER_REQUESTS = 10
"""Requests of one shape or depth after which preparing a runtime for it is worth the seconds."""

IDLE_SECONDS = 30.0
"""Seconds without a request after which a measurement is repeated."""

REPEATS = 2
"""Measurements of a checkpoint after the first one."""

Execute = Callable[[Callable[[], Any], threading.Event], Any]
"""Runs a function when nothing else is under way; raises Cancelled when the event is set before."""

Shape = tuple[str, int | None, int | None, int | None]
"""Checkpoint, queries, size and depth; None is the checkpoint's own, or every depth."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Subject:
    """A detector to measure, which is not kept in memory for that."""

    detector: "weakref.ref[Detector]"
    stop: threading.Event = field(default_factory=threading.Event)
    measuring: bool = True
    repeats: int = REPEATS


class LatencyMonitor:
    """Latency of each loaded checkpoint per decoder layer, measured when it is loaded and again
    when the server is idle; of several measurements of one runtime the fastest is kept.

    One thread prepares runtimes and measures, so that measurements do not disturb each other. Each
    timed pass is run by `execute`.

    Args:
        runtime: As `Settings.runtime`.
        execute: Runs each pass.
        on_prepared: Called with a checkpoint's name when a runtime is ready, which takes memory.
    """

    def __init__(
        self,
        runtime: str,
        execute: Execute,
        on_prepared: Callable[[str], None] = lambda name: None,
    ):
        self._runtime = runtime
        self._execute = execute
        self._on_prepared = on_prepared
        self._changed = threading.Condition()
        self._latencies: dict[str, Latency] = {}
        self._subjects: dict[str, _Subject] = {}
        self._work: deque[Callable[[], None]] = deque()
        self._last_request = time.monotonic()
        self._uses: Counter[Shape] = Counter()
        self._settled: set[Shape] = set()
        self._preparing = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        # A pass that runs while Python shuts down would crash the process.
        atexit.register(self.close)

    def add(self, detector: "Detector") -> None:
        """Start to measure a detector that has just been loaded."""
        name, subject = detector.checkpoint, _Subject(weakref.ref(detector))
        self.remove(name)
        with self._changed:
            self._subjects[name] = subject
        self._submit(lambda: self._measure_and_prepare(name, subject))

    def remove(self, checkpoint: str) -> None:
        """Forget the latency of a checkpoint that is no longer loaded, and stop measuring it."""
        with self._changed:
            self._latencies.pop(checkpoint, None)
            if subject := self._subjects.pop(checkpoint, None):
                subject.stop.set()
            for shape in [shape for shape in self._uses if shape[0] == checkpoint]:
                del self._uses[shape]
            self._settled = {shape for shape in self._settled if shape[0] != checkpoint}

    def latency(self, checkpoint: str) -> Latency | None:
        """The measured latency, or None before that (see `measuring`)."""
        return self._latencies.get(checkpoint)

    def record(self, checkpoint: str, latency: Latency) -> None:
        """Keep a latency that was measured elsewhere."""
        with self._changed:
            self._latencies[checkpoint] = latency

    def measuring(self, checkpoint: str) -> bool:
        """Whether a first measurement of this checkpoint is under way."""
        subject = self._subjects.get(checkpoint)
        return subject is not None and subject.measuring

    @property
    def preparing(self) -> bool:
        """Whether a runtime is being prepared for a shape that is requested often."""
        return self._preparing.is_set()

    def note_request(self, detector: "Detector", params: Params) -> None:
        """Count a request; a runtime is prepared for what is requested often, one at a time.

        Raises BadInput for a shape that the checkpoint does not have.
        """
        self._last_request = time.monotonic()
        if self._runtime == "torch" or detector.device.type != "cpu":
            return
        depth = None if params.every_layer else detector.check_depth(params.decoder_layers)
        if depth is None and params.queries is None and params.size is None:
            return
        shape = (detector.checkpoint, params.queries, params.size, depth)
        with self._changed:
            if shape in self._settled or self._preparing.is_set():
                return
            subject = self._subjects.get(detector.checkpoint)
            self._uses[shape] += 1
            if subject is None or self._uses[shape] < PREPARE_AFTER_REQUESTS:
                return
            if subject.measuring:  # the checkpoint's own runtime is prepared first
                return
            self._preparing.set()
        self._submit(lambda: self._prepare(subject, shape))

    def close(self, deadline: float | None = None) -> None:
        """Stop measuring, and wait for the thread until `deadline`, by default for 5 seconds."""
        with self._changed:
            self._closing = True
            for subject in self._subjects.values():
                subject.stop.set()
            self._changed.notify_all()
        if self._thread:
            deadline = time.monotonic() + 5.0 if deadline is None else deadline
            self._thread.join(max(deadline - time.monotonic(), 0.0))

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

    def _measure(self, name: str, subject: _Subject, detector: "Detector") -> None:
        """Measure once. Raises Cancelled."""
        latency = measure_latency(
            detector,
            stop=subject.stop,
            execute=lambda turn: self._execute(turn, subject.stop),
        )
        with self._changed:
            if subject.stop.is_set():
                return
            old = self._latencies.get(name)
            if not old or old.runtime != latency.runtime or latency.total_ms[-1] < old.total_ms[-1]:
                self._latencies[name] = latency

    def _measure_and_prepare(self, name: str, subject: _Subject) -> None:
        try:
            detector = subject.detector()
            if detector is None or subject.stop.is_set():
                return
            # The faster runtime first: it is what most requests will run on.
            if self._runtime != "torch" and detector.accelerate(
                half=self._runtime == "bf16", stop=subject.stop
            ):
                log.info("%s now runs on %s", name, detector.runtime().name)
                self._on_prepared(name)
            self._measure(name, subject, detector)
        except Cancelled:
            pass
        except Exception:
            log.exception("latency of %s could not be measured", name)
        finally:
            subject.measuring = False

    def _prepare(self, subject: _Subject, shape: Shape) -> None:
        _, queries, size, depth = shape
        try:
            if detector := subject.detector():
                half = self._runtime == "bf16"
                detector.accelerate(queries, size, depth=depth, half=half, stop=subject.stop)
        except Exception:
            log.exception("no runtime could be prepared for %s", shape)
        finally:
            with self._changed:
                # Neither what is ready nor what cannot be prepared is tried again at once.
                self._settled = {shape} | {one for one in self._settled if one[0] != shape[0]}
                self._uses.clear()
                self._preparing.clear()

    def _repeat(self) -> None:
        for name, subject in list(self._subjects.items()):
            is_idle = time.monotonic() - self._last_request > IDLE_SECONDS
            detector = subject.detector()
            if not (is_idle and subject.repeats and detector) or self._work:
                continue
            subject.repeats -= 1
            try:
                self._measure(name, subject, detector)
            except Cancelled:
                pass
            except Exception:
                log.exception("latency of %s could not be measured", name)
