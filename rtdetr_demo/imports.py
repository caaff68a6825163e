"""Large packages, imported without work that serves nobody here."""

import gc
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

_ONE_AT_A_TIME = threading.Lock()
"""What is switched off belongs to the whole process: who is last must not find it off."""

_getfile = inspect.getfile


def _getfile_of_others(thing: Any) -> str:
    if type(thing).__name__ == "ComponentMeta":  # a component of Gradio
        raise OSError("no file, so no stubs")
    return _getfile(thing)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside: it takes two thirds of the processor time.

    The garbage collector pauses, and later leaves alone what was imported: it is never garbage, yet
    each full collection would stop all threads for as long as it takes to look at it. And Gradio
    does not write stubs for code editors beside its components, which it does at every import.
    Not to be nested.
    """
    with _ONE_AT_A_TIME:
        enabled = gc.isenabled()
        gc.disable()
        try:
            with patch("inspect.getfile", _getfile_of_others):
                yield
        finally:
            gc.freeze()
            if enabled:
                gc.enable()
