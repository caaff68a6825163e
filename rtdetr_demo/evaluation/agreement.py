"""How far two sets of detections are the same: the one definition of it.

`agreement` of the page's `lib/predictions.js` is this in JavaScript; both are held to the same
cases (`tests/support/agreement_cases.json`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..predictions import Detection

MATCH_IOU = 0.5
"""Two detections of one class are the same thing from this overlap on."""


@dataclass(frozen=True)
class Agreement:
    """`kept` of `reference` detections are among `shown` others, at a mean overlap of `mean_iou`
    (`None` where none is)."""

    kept: int
    reference: int
    shown: int
    mean_iou: float | None

    @property
    def extra(self) -> int:
        """How many shown detections have no partner in the reference."""
        return self.shown - self.kept

    @property
    def f1(self) -> float:
        """From 0 to 1; two empty sets agree."""
        both = self.reference + self.shown
        return 2 * self.kept / both if both else 1.0


def agreement(shown: Sequence[Detection], reference: Sequence[Detection]) -> Agreement:
    """Pair detections of one class one-to-one, the largest overlaps first."""
    pairs = [
        (overlap, i, j)
        for i, wanted in enumerate(reference)
        for j, found in enumerate(shown)
        if wanted.label == found.label and (overlap := iou(wanted, found)) >= MATCH_IOU
    ]
    kept: set[int] = set()
    used: set[int] = set()
    total = 0.0
    for overlap, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if i not in kept and j not in used:
            kept.add(i)
            used.add(j)
            total += overlap
    mean = total / len(kept) if kept else None
    return Agreement(len(kept), len(reference), len(shown), mean)


def iou(one: Detection, other: Detection) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(one.xmax, other.xmax) - max(one.xmin, other.xmin)
    height = min(one.ymax, other.ymax) - max(one.ymin, other.ymin)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box.xmax - box.xmin) * (box.ymax - box.ymin) for box in (one, other)]
    return width * height / (sum(areas) - width * height)
