"""The networks that are compiled for one detector, by number of queries and input size."""

import logging
import threading
from typing import Any

from ..errors import Cancelled
from .network import StagedRTDetr
from .openvino import OpenVinoBackend
from .openvino_cache import default_folder

log = logging.getLogger(__name__)

Shape = tuple[int, tuple[int, int]]
"""Number of queries; height and width of the input."""


class CompiledShapes:
    """Compiles shapes of one model, and keeps that of the checkpoint itself and one more.

    `prepare` may run in a thread of its own; the rest reads what is ready meanwhile.
    """

    def __init__(self, checkpoint: str, own: Shape):
        self._checkpoint = checkpoint
        self._own = own
        self._ready: dict[Shape, OpenVinoBackend] = {}
        self._preparing = threading.Lock()

    @property
    def copies(self) -> int:
        """How many compiled networks are held, of all shapes."""
        return sum(backend.copies for backend in self._ready.values())

    def get(self, shape: Shape) -> OpenVinoBackend | None:
        """The backend that runs a shape, if one is ready."""
        return self._ready.get(shape)

    def clear(self) -> None:
        """Drop all that is compiled."""
        self._ready = {}

    def prepare(
        self, model: Any, shape: Shape, depth: int | None, half: bool, stop: threading.Event | None
    ) -> bool:
        """Compile a shape, and with `depth` a network that stops there; whether the shape runs."""
        with self._preparing:  # nothing is made ready twice
            backend = self._ready.get(shape)
            if backend is None:
                backend = self._compile(model, shape, True, stop) if half else None
                backend = backend or self._compile(model, shape, False, stop)
                if backend is None:
                    return False
                # A new dict: others read the old one meanwhile.
                kept = {self._own: self._ready[self._own]} if self._own in self._ready else {}
                self._ready = {**kept, shape: backend}
            if depth is not None:
                backend.prepare_cut(depth)
            return True

    def _compile(
        self, model: Any, shape: Shape, half: bool, stop: threading.Event | None
    ) -> OpenVinoBackend | None:
        stages = StagedRTDetr(model, shape[0]).eval()
        try:
            return OpenVinoBackend(stages, shape[1], half, stop, default_folder())
        except (ImportError, Cancelled):
            return None
        except Exception as error:
            # A compiler has no end of ways to fail, and PyTorch serves as well.
            log.warning("OpenVINO does not run %s: %s", self._checkpoint, error)
            return None
