"""What this process gives back to the machine."""

import ctypes
import gc
import sys
from contextlib import suppress


def trim() -> None:
    """Collect garbage and return freed heap to the system (glibc `malloc_trim`); no effect beyond
    collection elsewhere. glibc otherwise keeps tens of megabytes a thread."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
