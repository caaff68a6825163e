"""Spaces on ZeroGPU, which lend a card for one call at a time.

There the main process keeps models on the CPU and never touches a card. A function marked with
`lend` runs in a copy of the process that has one.
"""

import functools
import os
import re
from collections.abc import Callable
from typing import TypeVar

from .errors import Busy

F = TypeVar("F", bound=Callable)


def is_zero_gpu() -> bool:
    """Whether this is such a Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def prepare() -> None:
    """On such a Space, have its package in place before PyTorch is imported."""
    if is_zero_gpu():
        import spaces  # noqa: F401


def lend(function: F, seconds: int) -> F:
    """On such a Space, run a function where it has a card for about so many seconds at most.

    The call raises Busy where none is free, or where the visitor's time is spent. Elsewhere the
    function stays as it is.
    """
    if not is_zero_gpu():
        return function
    import spaces

    lent = spaces.GPU(function, duration=seconds)

    @functools.wraps(function)
    def call(*arguments: object) -> object:
        try:
            return lent(*arguments)
        except Exception as error:
            if not type(error).__module__.startswith("gradio"):
                raise
            said = re.sub("<[^>]*>", "", str(getattr(error, "message", error))).strip(" .'\"")
            raise Busy(
                f"No card could be lent for this: {said}. Sign in on Hugging Face for more time, "
                "or try again later."
            ) from None

    return call  # type: ignore[return-value]
