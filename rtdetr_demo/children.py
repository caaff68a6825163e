"""Child processes, in which foreign bytes are decoded.

What crashes, hangs or swells there ends there. Whoever starts one keeps a deadline for it.
"""

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOADED = ["rtdetr_demo.media.images", "rtdetr_demo.video.pipeline"]
"""Imported once, for all of them."""
LONGEST_PATH = 70


def child_context() -> Any:
    """How they are started: from a small process that has neither our threads nor our memory."""
    # The small process listens on a socket among temporary files, whose path has a limit.
    if sys.platform == "win32" or len(os.fsencode(tempfile.gettempdir())) > LONGEST_PATH:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    try:
        context.Process(target=_nothing, daemon=True).start()
    except OSError:  # someone has deleted its socket
        return multiprocessing.get_context("spawn")
    return context


def _nothing() -> None:
    """Proves that a child starts."""


def settle_as_child(memory_bytes: int | None = None) -> None:
    """Called first in a child: it goes before its parent when memory runs short, may take
    `memory_bytes` of address space, and leaves Ctrl-C to its parent. Garbage collection no longer
    looks at what is there already: modules, which stay."""
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")
    if memory_bytes and os.name == "posix":
        import resource

        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
