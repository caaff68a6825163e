"""Spaces on ZeroGPU, which give a GPU for one call at a time.

There the main process keeps models on the CPU and never touches a GPU. A function wrapped by
`gpu_task` runs in a worker process that has one, a copy of the main process.
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


def gpu_task(function: F, seconds: int) -> F:
    """On a ZeroGPU Space, wrap `function` to run in a GPU worker process for at most `seconds`;
    elsewhere return it unchanged.

    Positional arguments only. The wrapper raises Busy where no GPU is free or the visitor's quota
    is spent.
    """
    if not is_zero_gpu():
        return function
    import spaces

    on_gpu = spaces.GPU(function, duration=seconds)

    @functools.wraps(function)
    def call(*arguments: object) -> object:
        try:
            return on_gpu(*arguments)
        except Exception as error:
            if not type(error).__module__.startswith("gradio"):
                raise
            reason = re.sub("<[^>]*>", "", str(getattr(error, "message", error))).strip(" .'\"")
            raise Busy(
                f"No GPU is available: {reason}. Sign in on Hugging Face for more time, or try "
                "again later."
            ) from None

    return call  # type: ignore[return-value]
