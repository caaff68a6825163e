"""The one noun: what a detector said about one picture, at every decoder layer that it ran."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeGuard

import numpy as np

from .errors import BadInput


class Selection(NamedTuple):
    """Which detections to show: of decoder layer `layer` (1 is the first), scored above
    `threshold`, labelled with one of `classes`, and the best `max_detections` of these
    (`None`: all)."""

    layer: int
    threshold: float = 0.5
    classes: Collection[str] | None = None
    max_detections: int | None = None


def check_threshold(threshold: object) -> float:
    """Give a threshold back as a number. Raises BadInput unless it is one from 0 to 1."""
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:  # type: ignore[operator]
        raise BadInput("The threshold is a number from 0 to 1.")
    return float(threshold)  # type: ignore[arg-type]


def is_whole(number: object) -> TypeGuard[int]:
    """Whether it is an int, and no bool."""
    return isinstance(number, int) and not isinstance(number, bool)


def check_depth(decoder_layers: object, depth: int) -> int:
    """How many decoder layers to run, of `depth`; `None` is all. Raises BadInput for others."""
    if decoder_layers is None:
        return depth
    if not is_whole(decoder_layers) or not 1 <= decoder_layers <= depth:
        raise BadInput(
            f"This checkpoint has {depth} decoder layers: choose a whole number from 1 to {depth}."
        )
    return decoder_layers


class Detection(NamedTuple):
    """One thing found; the box in pixels of the picture (see `Predictions`)."""

    label: str
    class_id: int
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def to_json(self) -> dict:
        """As transformers' pipeline gives it: label, score and whole-pixel `box` by its corners."""
        corners = ("xmin", "ymin", "xmax", "ymax")
        return {
            "label": self.label,
            "score": round(self.score, 6),
            # Whole pixels, cut like the pipeline's.
            "box": {corner: int(getattr(self, corner)) for corner in corners},
        }

    def clipped(self, width: int, height: int) -> tuple[float, float, float, float]:
        """x, y, width, height of what lies inside a picture of this size."""
        left, right = (min(max(v, 0.0), float(width)) for v in (self.xmin, self.xmax))
        top, bottom = (min(max(v, 0.0), float(height)) for v in (self.ymin, self.ymax))
        return left, top, right - left, bottom - top


@dataclass(frozen=True)
class Timing:
    """Milliseconds spent on one picture, from a decoded picture to detections."""

    preprocess: float
    model: float
    postprocess: float

    @property
    def total(self) -> float:
        return self.preprocess + self.model + self.postprocess

    def to_json(self) -> dict[str, float]:
        return {name: round(ms, 2) for name, ms in {**asdict(self), "total": self.total}.items()}


@dataclass(frozen=True)
class Predictions:
    """Every candidate of every decoder layer, best first. Arrays are `[layers, queries, ...]`.

    Where the layers before the last were not asked for, the only row is that of layer `first`.

    Boxes are xmin, ymin, xmax, ymax in pixels of the upright original picture, not clipped to it
    (as in transformers). A query may stand in a layer more than once, with different labels.
    """

    checkpoint: str
    class_names: tuple[str, ...]
    width: int
    height: int
    scores: np.ndarray
    """float32 [layers, queries], descending along the second axis."""
    labels: np.ndarray
    """int64 [layers, queries], indices into `class_names`."""
    queries: np.ndarray
    """int64 [layers, queries]: which of the decoder's queries said it."""
    boxes: np.ndarray
    """float32 [layers, queries, 4]."""
    timing: Timing
    first: int = 1

    @property
    def layers(self) -> int:
        """How many decoder layers ran."""
        return self.first - 1 + len(self.scores)

    def select(
        self,
        layer: int,
        threshold: float = 0.5,
        classes: Collection[str] | None = None,
        max_detections: int | None = None,
    ) -> list[Detection]:
        """The detections that a `Selection` of these keeps, best first."""
        index = layer - self.first
        count = int((self.scores[index] > threshold).sum())
        found = [
            Detection(self.class_names[label], int(label), float(score), *map(float, box))
            for label, score, box in zip(
                self.labels[index][:count],
                self.scores[index][:count],
                self.boxes[index][:count],
                strict=True,
            )
        ]
        if classes is not None:
            found = [detection for detection in found if detection.label in classes]
        return found[:max_detections]

    def to_json(
        self,
        layer: int,
        threshold: float = 0.5,
        classes: Collection[str] | None = None,
        max_detections: int | None = None,
    ) -> dict:
        """The form that every surface shares; each detection as transformers' pipeline gives it."""
        return {
            "checkpoint": self.checkpoint,
            "decoder_layers": layer,
            "image": {"width": self.width, "height": self.height},
            "detections": [
                detection.to_json()
                for detection in self.select(layer, threshold, classes, max_detections)
            ],
            "timing_ms": self.timing.to_json(),
        }

    def for_browser(self, layers: Sequence[int] = (), lowest: float = 0.0) -> dict:
        """Candidates, compact, for a page that redraws by itself.

        Those of `layers` (by default of all that are here; 1 is the first) that score at least
        `lowest`.
        Scores to 1e-6; boxes flat, four numbers a candidate, to a tenth of a pixel.
        """
        wanted = [layer - self.first for layer in layers] or range(len(self.scores))
        counts = [int((self.scores[i] >= lowest).sum()) for i in wanted]
        return {
            "checkpoint": self.checkpoint,
            "classes": list(self.class_names),
            "width": self.width,
            "height": self.height,
            "layers": [
                {
                    "scores": np.round(self.scores[i, :n].astype(float), 6).tolist(),
                    "labels": self.labels[i, :n].tolist(),
                    "queries": self.queries[i, :n].tolist(),
                    "boxes": np.round(self.boxes[i, :n].astype(float), 1).ravel().tolist(),
                }
                for i, n in zip(wanted, counts, strict=True)
            ],
            "timing_ms": self.timing.to_json(),
        }
