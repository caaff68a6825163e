"""What callers ask of an engine."""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from ..detector.detector import Detector

Source = bytes | str | Image.Image
"""A picture: a file's bytes, an http(s) address or data URI, or a decoded RGB picture."""


@dataclass(frozen=True)
class Params:
    """How to detect.

    Attributes:
        checkpoint: Name of a checkpoint; None for the active one.
        decoder_layers: Layers to run; None for all.
        queries: Number of queries that the decoder refines; None for the checkpoint's own.
        size: Side of the square input in pixels; None for the checkpoint's own.
        every_layer: Whether the predictions include the layers before the last one.
    """

    checkpoint: str | None = None
    decoder_layers: int | None = None
    queries: int | None = None
    size: int | None = None
    every_layer: bool = True


@dataclass(frozen=True)
class Prepared:
    """A picture as the network takes it.

    Attributes:
        pixels: Tensor, or array of a worker process, [1, 3, height, width], as the checkpoint's
            processor prepares it.
        width: Of the original picture, in pixels.
        height: Of the original picture, in pixels.
        milliseconds: What preparing it took.
    """

    pixels: Any
    width: int
    height: int
    milliseconds: float


@dataclass(eq=False)
class Request:
    """One picture on its way through an engine, or one function for the device's thread.

    Attributes:
        client: On whose behalf it runs; clients take turns.
        ticket: The client's own name for it.
        call: The function to run instead of a detection.
        idle: Whether it waits until nothing else is under way.
    """

    client: str
    ticket: str = ""
    params: Params = field(default_factory=Params)
    kind: str = "detect"
    call: Callable[[], Any] | None = None
    idle: bool = False
    future: "Future[Any]" = field(default_factory=Future)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    opening: "Future[Image.Image] | None" = None
    detector: "Detector | None" = None
    prepared: Prepared | None = None
    queued: float = 0.0

    def is_like(self, other: "Request") -> bool:
        """Whether both can share one pass of the network."""
        same = self.kind == other.kind == "detect" and self.detector is other.detector
        return same and self.params == other.params and self.shape == other.shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the prepared input; empty where the device has another form of it."""
        return tuple(getattr(getattr(self.prepared, "pixels", None), "shape", ()))

    def fail(self, error: BaseException) -> None:
        """End it with an error, unless it has ended already."""
        if not self.future.done():
            self.future.set_exception(error)
