"""How to go through a clip, and what comes of it."""

from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
from ..predictions import check_threshold

FILES = ("annotated.mp4", "detections.jsonl", "detections.csv")
"""What comes of a clip."""


@dataclass(frozen=True)
class Limits:
    """What a clip may be: seconds long, and pixels per frame; and seconds of work on it, after
    which it ends with what is done."""

    seconds: float = 15 * 60
    pixels: int = 3840 * 2160
    work_seconds: float = 3 * 3600


@dataclass(frozen=True)
class Options:
    """How to go through a clip.

    `stride`: detect in every n-th frame; the frames between two show the boxes of the first.
    `longest`: longest side of the output, in pixels. `line`: count tracks that cross a level line
    at this share of the height (0 is the top). `queries`, `size`: see `Detector.detect`.
    """

    decoder_layers: int | None = None
    threshold: float = 0.5
    classes: tuple[str, ...] | None = None
    stride: int = 1
    longest: int | None = None
    line: float | None = None
    queries: int | None = None
    size: int | None = None

    def check(self) -> "Options":
        """Return self. Raises BadInput for a value out of range."""
        check_threshold(self.threshold)
        if not 1 <= self.stride <= 100:
            raise BadInput("The stride is a whole number from 1 to 100.")
        if self.longest is not None and not 64 <= self.longest <= 3840:
            raise BadInput("The output's longest side is from 64 to 3840 pixels.")
        if self.line is not None and not 0 < self.line < 1:
            raise BadInput("The line lies between 0 (top) and 1 (bottom) of the height.")
        return self


@dataclass
class Progress:
    """How far it is. `left`: seconds to go, where the number of frames is known."""

    done: int = 0
    total: int | None = None
    fps: float = 0.0
    left: float | None = None
    preview: np.ndarray | None = None


@dataclass
class Summary:
    """What came of it. `seen`: per second of the clip and label, how many tracks were in sight.
    `notes`: sentences on what the annotated clip has otherwise than its source."""

    frames: int = 0
    cancelled: bool = False
    seen: list[dict[str, int]] = field(default_factory=list)
    crossed_down: int = 0
    crossed_up: int = 0
    notes: list[str] = field(default_factory=list)
