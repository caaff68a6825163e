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


def match(
    shown: Sequence[Detection], reference: Sequence[Detection], least_iou: float = MATCH_IOU
) -> list[tuple[int, int, float]]:
    """Pair detections of one class one-to-one, the largest overlaps first.

    Args:
        shown: The detections to judge.
        reference: The detections that they are compared with.
        least_iou: Overlap from which two detections are the same thing.

    Returns:
        Index in `shown`, index in `reference` and IoU of each pair, largest IoU first.
    """
    candidates = [
        (j, i, overlap)
        for i, wanted in enumerate(reference)
        for j, other in enumerate(shown)
        if wanted.label == other.label and (overlap := iou(wanted, other)) >= least_iou
    ]
    pairs: list[tuple[int, int, float]] = []
    matched_shown: set[int] = set()
    matched_reference: set[int] = set()
    for j, i, overlap in sorted(candidates, key=lambda candidate: -candidate[2]):
        if j not in matched_shown and i not in matched_reference:
            matched_shown.add(j)
            matched_reference.add(i)
            pairs.append((j, i, overlap))
    return pairs


def agreement(shown: Sequence[Detection], reference: Sequence[Detection]) -> Agreement:
    """Count what `match` pairs."""
    overlaps = [overlap for _, _, overlap in match(shown, reference)]
    mean = sum(overlaps) / len(overlaps) if overlaps else None
    return Agreement(len(overlaps), len(reference), len(shown), mean)


def iou(first: Detection, second: Detection) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(first.xmax, second.xmax) - max(first.xmin, second.xmin)
    height = min(first.ymax, second.ymax) - max(first.ymin, second.ymin)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box.xmax - box.xmin) * (box.ymax - box.ymin) for box in (first, second)]
    return width * height / (sum(areas) - width * height)
