"""Which device detects, what to say of one that fails, and how time is taken on it."""

import gc
import itertools
import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from ..errors import BadInput, Busy
from ..zero_gpu import is_zero_gpu

A = TypeVar("A")
B = TypeVar("B")

CPU = torch.device("cpu")

log = logging.getLogger(__name__)


def best_device() -> torch.device:
    """The device that the environment variable RTDETR_DEVICE names; by default CUDA, else Apple's
    MPS, else the CPU. On a ZeroGPU Space the CPU: there a GPU exists in worker processes only.

    A device that is not there is logged, and the CPU serves. Raises BadInput for a name that cannot
    be.
    """
    name = os.environ.get("RTDETR_DEVICE", "").strip().lower() or "auto"
    try:
        chosen = None if name == "auto" else torch.device(name)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen is not None and chosen.type not in ("cpu", "cuda", "mps"):
        raise BadInput(
            f"RTDETR_DEVICE cannot be {name[:20]!r}. Choose auto, cpu, cuda, a certain GPU such as "
            "cuda:1, or mps."
        )
    if is_zero_gpu():
        return CPU
    if chosen is None:
        return present_device()
    if reason := _absence(chosen):
        log.warning("RTDETR_DEVICE is %s, but %s. Detection runs on the CPU.", name, reason)
        return CPU
    return chosen


def present_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU. Why a GPU cannot be used is logged."""
    available, reason = _cuda()
    if available:
        return torch.device("cuda")
    if reason:
        log.warning("The GPU is not used: %s. Detection runs on the CPU.", reason)
    return torch.device("mps") if torch.backends.mps.is_available() else CPU


def lent_gpu() -> torch.device:
    """The GPU of a ZeroGPU worker process. Raises Busy where it has none."""
    available, reason = _cuda()
    if not available:
        log.warning("a GPU worker process has no GPU: %s", reason or "CUDA is not available")
        raise Busy("No GPU is available: this call was given none that works. Try again.")
    return torch.device("cuda")


def _cuda() -> tuple[bool, str]:
    """Whether CUDA can be used; where PyTorch has a reason why not, such as an old driver, that."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    return available, _first_sentence(str(caught[0].message)) if caught else ""


def _absence(device: torch.device) -> str:
    """Why there is no such device; empty where there is."""
    if device.type == "mps":
        return "" if torch.backends.mps.is_available() else "PyTorch finds no Apple GPU"
    if device.type == "cuda":
        available, reason = _cuda()
        if not available:
            return f"PyTorch cannot use a GPU ({reason})" if reason else "PyTorch finds no GPU"
        if (device.index or 0) >= torch.cuda.device_count():
            return f"the last GPU is cuda:{torch.cuda.device_count() - 1}"
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def explain(error: BaseException, device: torch.device) -> str:
    """Why a device failed: part of a sentence that begins with the device."""
    text = str(error)
    if is_out_of_memory(error):
        return f"{device} has too little free memory"
    if "no kernel image" in text or "not compatible with the current PyTorch" in text:
        return f"{device} is a GPU that this version of PyTorch does not support"
    if "driver" in text.lower():
        return f"the driver of {device} is too old for this version of PyTorch"
    return f"{device} failed ({_first_sentence(text) or type(error).__name__})"


def _first_sentence(text: str) -> str:
    return text.strip().split("\n")[0].split(". ")[0].rstrip(". ")[:200]


def free_memory(device: torch.device) -> None:
    """Give back to the device what PyTorch keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def within_memory(
    work: Callable[[Sequence[A]], list[B]],
    items: Sequence[A],
    device: torch.device,
    release: Callable[[], None],
) -> list[B]:
    """`work(items)`; where memory runs out, in halves, after `release` and `free_memory`.

    Raises Busy where one item alone does not fit, even then.
    """
    attempts = 1 if len(items) > 1 else 2
    for _ in range(attempts):
        try:
            return work(items)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = explain(error, device)
        # Only here: until then the exception holds what the work had made.
        log.warning("%s for %d pictures at once: memory is freed", reason, len(items))
        release()
        free_memory(device)
    if len(items) == 1:
        raise Busy(
            f"This picture does not fit into memory: {reason}. Choose a smaller input size or a "
            "smaller checkpoint, or try again later."
        )
    middle = (len(items) + 1) // 2
    halves = (items[:middle], items[middle:])
    return [result for half in halves for result in within_memory(work, half, device, release)]


class Stopwatch:
    """Milliseconds between marks, as the device sees them.

    On CUDA marks are events in the stream, so that taking time does not make the device wait for
    the CPU between two steps; elsewhere each mark waits for the device and reads the clock.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._marks: list[Any] = []
        self.mark()

    def mark(self) -> None:
        """One step ends here, and the next begins."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            wait_for(self._device)
            self._marks.append(time.perf_counter())

    def milliseconds(self) -> list[float]:
        """Of each step; waits until the last one has ended."""
        pairs = itertools.pairwise(self._marks)
        if self._device.type == "cuda":
            self._marks[-1].synchronize()
            return [begin.elapsed_time(end) for begin, end in pairs]
        return [1000 * (end - begin) for begin, end in pairs]
