"""Large packages, imported without work that serves nobody here."""

import gc
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside: it takes two thirds of the processor time.

    The garbage collector pauses, and later leaves alone what was imported: it is never garbage, yet
    each full collection would stop all threads for as long as it takes to look at it. And Gradio
    does not write stubs for code editors beside its components, which it does at every import.
    """
    getfile = inspect.getfile

    def getfile_of_others(thing: Any) -> str:
        if type(thing).__name__ == "ComponentMeta":  # a component of Gradio
            raise OSError("no file, so no stubs")
        return getfile(thing)

    enabled = gc.isenabled()
    gc.disable()
    try:
        with patch("inspect.getfile", getfile_of_others):
            yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
