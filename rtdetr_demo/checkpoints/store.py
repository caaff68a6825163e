"""The models that one process holds: each once, shared by everyone."""

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from .. import memory, metrics
from ..errors import CheckpointError
from ..imports import quick_imports
from . import hub
from .catalog import BUNDLED, is_listed
from .files import check_bounds, weights_bytes

if TYPE_CHECKING:
    from ..detector.detector import Detector


log = logging.getLogger(__name__)


@functools.cache
def _detector_class() -> "type[Detector]":
    # PyTorch and transformers take seconds to import, and a page must not wait for that.
    with quick_imports():
        from ..detector.detector import Detector
    return Detector


class ModelStore:
    """Loaded detectors by checkpoint, the least recently used dropped past `memory_bytes`."""

    def __init__(
        self,
        memory_bytes: int,
        on_load: Callable[["Detector"], None] = lambda _: None,
        on_drop: Callable[[str], None] = lambda _: None,
    ):
        """`on_load` hears of each detector before it serves, `on_drop` of each name let go."""
        self._memory_bytes = memory_bytes
        self._on_load, self._on_drop = on_load, on_drop
        self._lock = threading.Lock()
        self._detectors: OrderedDict[str, Future[Detector]] = OrderedDict()
        self._loading = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._downloads: dict[str, hub.Download] = {}

    def forget_threads(self) -> None:
        """For a forked copy of this process, where no thread goes on: let go of what one held.

        A model that one was loading there is loaded by whoever asks for it here.
        """
        self._lock, self._loading = threading.Lock(), threading.Lock()
        for name in [name for name, future in self._detectors.items() if not future.done()]:
            del self._detectors[name]

    def name_folder(self, folder: Path) -> str:
        """Let `get` know a folder of this machine by its last part; gives that name."""
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
            detector_class = _detector_class()
            if not is_listed(checkpoint):
                check_bounds(checkpoint, folder)
            with self._loading:  # one at a time, as each makes room first
                self._make_room(checkpoint, folder)
                detector = detector_class.load(checkpoint, folder)
            metrics.MODEL_LOADS.labels(checkpoint).inc()
            log.info("loaded %s on %s, %s", checkpoint, detector.device, detector.precision)
            self._on_load(detector)
        except BaseException as error:
            with self._lock:
                del self._detectors[checkpoint]
            mine.set_exception(error)
            raise
        mine.set_result(detector)
        self.drop_excess(checkpoint)
        return detector

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
        """Whether the checkpoint is on its way into memory."""
        with self._lock:
            future = self._detectors.get(checkpoint)
        return future is not None and not future.done()

    def download(self, checkpoint: str) -> tuple[hub.Download, bool]:
        """The download of a checkpoint from the hub, and whether it has been begun just now.

        One that is under way is joined, not begun again.
        """
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
        """Let the least recently used go until the rest, and `needed` bytes more, fit the limit;
        `keep` stays."""
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
                # The bundled one is small, and what serves when nothing else can.
                if name not in (keep, BUNDLED):
                    del self._detectors[name], held[name]
                    self._on_drop(name)
                    dropped = True
                    log.info("dropped %s to stay within the memory limit", name)
        if dropped:
            memory.trim()
