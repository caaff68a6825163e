"""Child processes, in which files of strangers are decoded.

A crash, a hang or a lack of memory there harms only the child. The parent keeps a deadline for it.
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

PRELOADED = ["rtdetr_demo.media.decoder_process", "rtdetr_demo.video.pipeline"]
"""Modules that are imported once for all children."""
LONGEST_PATH = 70


def child_context() -> Any:
    """The multiprocessing context that starts children: from a small process without the threads
    and the memory of this one (`forkserver`), or else anew (`spawn`)."""
    # The small process listens on a socket among temporary files, whose path has a limit.
    is_too_long = len(os.fsencode(tempfile.gettempdir())) > LONGEST_PATH
    if sys.platform in ("win32", "darwin") or is_too_long:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    try:
        context.Process(target=_nothing, daemon=True).start()
    except OSError:  # its socket was deleted
        return multiprocessing.get_context("spawn")
    return context


def _nothing() -> None:
    """Proves that a child starts."""


def settle_as_child(address_bytes: int | None = None, data_bytes: int | None = None) -> None:
    """Prepare a child process; called first in it.

    The kernel ends it before its parent when memory runs short, Ctrl-C is left to the parent, and
    garbage collection leaves out the modules that are loaded already.

    Args:
        address_bytes: Limit of the address space.
        data_bytes: Limit of heap, stacks and private data, which leaves out files and libraries.
    """
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")
    if os.name == "posix":
        import resource

        limits = (resource.RLIMIT_AS, address_bytes), (resource.RLIMIT_DATA, data_bytes)
        for kind, limit in limits:
            if limit:
                with suppress(ValueError, OSError):
                    resource.setrlimit(kind, (limit, limit))
