"""Loaded detectors: each checkpoint once, shared by all requests."""

import functools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .. import memory, metrics
from ..errors import CheckpointError
from ..imports import quick_imports
from . import hub
from .catalog import BUNDLED
from .files import weights_bytes

if TYPE_CHECKING:
    from ..detector.detector import Detector


log = logging.getLogger(__name__)


@functools.cache
def _loading() -> ModuleType:
    # PyTorch and transformers take seconds to import, and a page must not wait for that.
    with quick_imports():
        from . import loading
    return loading


class ModelStore:
    """Loaded detectors by checkpoint; past `memory_bytes` the least recently used are dropped.

    Args:
        memory_bytes: What the detectors may take together.
        on_load: Called with each detector before it is used.
        on_drop: Called with the name of each detector that is dropped.
    """

    def __init__(
        self,
        memory_bytes: int,
        on_load: Callable[["Detector"], None] = lambda detector: None,
        on_drop: Callable[[str], None] = lambda name: None,
    ):
        self._memory_bytes = memory_bytes
        self._on_load, self._on_drop = on_load, on_drop
        self._lock = threading.Lock()
        self._detectors: OrderedDict[str, Future[Detector]] = OrderedDict()
        self._one_load = threading.Lock()
        self._folders: dict[str, str] = {}
        self._downloads: dict[str, hub.Download] = {}

    def forget_threads(self) -> None:
        """For a forked copy of this process, which has none of its threads: replace the locks, and
        forget the loads that were under way. They start anew when they are requested."""
        self._lock, self._one_load = threading.Lock(), threading.Lock()
        for name in [name for name, future in self._detectors.items() if not future.done()]:
            del self._detectors[name]

    def name_folder(self, folder: str) -> str:
        """Make a folder known by its last part, and return that name."""
        name = Path(folder).expanduser().resolve().name
        self._folders[name] = os.path.expanduser(folder)
        return name

    def is_here(self, checkpoint: str) -> bool:
        """Whether it can be loaded without the hub."""
        return checkpoint in self._folders or hub.local_folder(checkpoint) is not None

    def request(self, checkpoint: str) -> "Future[Detector]":
        """The detector as a future; it is loaded in a thread unless it is in memory.

        The future fails with CheckpointError if the checkpoint is not on this machine, or cannot
        be loaded.
        """
        with self._lock:
            future = self._detectors.get(checkpoint)
            if future is not None:
                self._detectors.move_to_end(checkpoint)
                return future
            future = self._detectors[checkpoint] = Future()
        work = functools.partial(self._load, checkpoint, future)
        threading.Thread(target=work, name=f"load {checkpoint}", daemon=True).start()
        return future

    def get(self, checkpoint: str) -> "Detector":
        """The detector, once it is loaded; errors as in `request`."""
        return self.request(checkpoint).result()

    def _load(self, checkpoint: str, future: "Future[Detector]") -> None:
        try:
            path = self._folders.get(checkpoint, checkpoint)
            folder = Path(path) if checkpoint in self._folders else hub.local_folder(path)
            if folder is None:
                raise CheckpointError(
                    f"{checkpoint} is not on this machine yet. Download it first, or choose "
                    "the bundled checkpoint."
                )
            with self._one_load:  # one at a time, as each makes room first
                self._make_room(checkpoint, folder)
                detector = _loading().load(path, name=checkpoint)
            metrics.MODEL_LOADS.labels(checkpoint).inc()
            log.info("loaded %s on %s, %s", checkpoint, detector.device, detector.precision)
            self._on_load(detector)
        except BaseException as error:
            with self._lock:
                self._detectors.pop(checkpoint, None)
            future.set_exception(error)
            return
        # A future of its own: the first one keeps alive what its callbacks refer to.
        kept: Future[Detector] = Future()
        kept.set_result(detector)
        with self._lock:
            self._detectors[checkpoint] = kept
        future.set_result(detector)
        self.drop_excess(checkpoint)

    def _make_room(self, checkpoint: str, folder: Path) -> None:
        needed = weights_bytes(folder)
        if needed > self._memory_bytes and checkpoint != BUNDLED:
            raise CheckpointError(
                f"{checkpoint} takes {needed / 2**30:.1f} GB, more than models may take here. "
                "Choose a smaller one, or start the demo with a higher --model-memory-gb."
            )
        self.drop_excess(checkpoint, needed)

    def loaded(self) -> list[str]:
        """Names of the checkpoints in memory, least recently used first."""
        with self._lock:
            return [name for name, future in self._detectors.items() if future.done()]

    def is_loading(self, checkpoint: str) -> bool:
        """Whether the checkpoint is being loaded."""
        with self._lock:
            future = self._detectors.get(checkpoint)
        return future is not None and not future.done()

    def download(self, checkpoint: str) -> tuple[hub.Download, bool]:
        """The download of a checkpoint from the hub, and whether this call started it."""
        with self._lock:
            current = self._downloads.get(checkpoint)
            is_new = current is None or not current.running
            if current is None or is_new:
                current = hub.Download(checkpoint, self._memory_bytes)
                self._downloads[checkpoint] = current
            return current, is_new

    def downloading(self, checkpoint: str) -> hub.Download | None:
        """The latest download of this checkpoint in this process, running or ended."""
        return self._downloads.get(checkpoint)

    def drop_excess(self, keep: str, needed: int = 0) -> None:
        """Drop the least recently used detectors until the others and `needed` bytes more fit.

        `keep` and the bundled checkpoint, which is small and the fallback, stay.
        """
        dropped = False
        with self._lock:
            held = {
                name: future.result().memory_bytes
                for name, future in self._detectors.items()
                if future.done() and not future.exception()
            }
            for name in list(held):
                if sum(held.values()) + needed <= self._memory_bytes:
                    break
                if name not in (keep, BUNDLED):
                    del self._detectors[name], held[name]
                    self._on_drop(name)
                    dropped = True
                    log.info("dropped %s to stay within the memory limit", name)
        if dropped:
            memory.trim()
