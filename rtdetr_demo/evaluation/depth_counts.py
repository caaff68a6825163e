"""What each decoder depth keeps and adds in one picture, compared with full depth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..predictions import Detection, Predictions
from .agreement import match

IOUS = (0.5, 0.75)
"""Overlaps from which a detection counts as kept. What is lost is listed at the first of them."""

SIZES = ("small", "medium", "large")
"""COCO's sizes of objects."""

_MEDIUM, _LARGE = 32**2, 96**2


class Group(NamedTuple):
    """Which detections are counted.

    Attributes:
        kind: "all", "class" or "size".
        name: The class, or one of `SIZES`; "all" for all detections.
    """

    kind: str
    name: str


EVERY = Group("all", "all")


@dataclass(frozen=True)
class PictureCounts:
    """The counts of one picture.

    Attributes:
        name: The picture's name.
        reference: Number of detections at full depth, by group.
        kept: [IoUs, depths] of each group in `reference`: how many of them each depth keeps.
        added: [IoUs, depths] of each group that has any: detections of each depth that full depth
            does not have.
        lost: For each depth, the detections of full depth that it does not keep.
    """

    name: str
    reference: dict[Group, int]
    kept: dict[Group, np.ndarray]
    added: dict[Group, np.ndarray]
    lost: tuple[tuple[Detection, ...], ...]


def count_picture(name: str, predictions: Predictions, threshold: float) -> PictureCounts:
    """Compare every depth of one pass with its last.

    Args:
        name: The picture's name.
        predictions: Those of all layers.
        threshold: Score to exceed, at every depth.
    """
    depths = [predictions.select(k, threshold) for k in range(1, predictions.layers + 1)]
    reference = depths[-1]
    shape = (len(IOUS), len(depths))
    totals = _totals(reference)
    kept = {group: np.zeros(shape, np.int64) for group in totals}
    added: dict[Group, np.ndarray] = {}
    lost: list[tuple[Detection, ...]] = []
    for i, least_iou in enumerate(IOUS):
        for k, shown in enumerate(depths):
            pairs = match(shown, reference, least_iou)
            partners = {place for _, place, _ in pairs}
            matched = {place for place, _, _ in pairs}
            for group, count in _totals(_at(reference, partners)).items():
                kept[group][i, k] = count
            others = set(range(len(shown))) - matched
            for group, count in _totals(_at(shown, others)).items():
                added.setdefault(group, np.zeros(shape, np.int64))[i, k] = count
            if i == 0:
                lost.append(tuple(_at(reference, set(range(len(reference))) - partners)))
    return PictureCounts(name, totals, kept, added, tuple(lost))


def size_of(detection: Detection) -> str:
    """COCO's size of a box, by its area in pixels of the picture as it is stored."""
    area = (detection.xmax - detection.xmin) * (detection.ymax - detection.ymin)
    return SIZES[(area >= _MEDIUM) + (area >= _LARGE)]


def _at(detections: Sequence[Detection], places: set[int]) -> list[Detection]:
    return [detection for place, detection in enumerate(detections) if place in places]


def _totals(detections: Iterable[Detection]) -> dict[Group, int]:
    totals = {EVERY: 0}
    for detection in detections:
        for group in (EVERY, Group("class", detection.label), Group("size", size_of(detection))):
            totals[group] = totals.get(group, 0) + 1
    return totals
