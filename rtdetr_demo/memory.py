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


def keep_freed(heap_bytes: int) -> None:
    """Keep up to so many bytes of freed heap until `trim` is called (glibc; no effect elsewhere).
    The kernel otherwise clears the same pages again for each picture, which takes longer than to
    decode a small one."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None)
            libc.mallopt(mmap_threshold, heap_bytes)
            libc.mallopt(trim_threshold, heap_bytes)
