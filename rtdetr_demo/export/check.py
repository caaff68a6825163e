"""How far an export is from the detector's own pass, on the picture that ships with the demo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..detector.detector import Detector
from ..predictions import Detection
from .settings import Cut

ABOVE = 0.3
"""Detections that score more are compared."""

AT_LEAST = 10
"""Candidates that are compared where fewer score more than `ABOVE`."""


@dataclass(frozen=True)
class Gap:
    """The largest differences of the compared detections that are closest.

    Attributes:
        score: In score.
        box: In any side of a box, as a share of the picture's width or height.
        detections: How many detections these are.
        compared: How many were compared.
    """

    score: float
    box: float
    detections: int
    compared: int


def reference(detector: Detector, cut: Cut, image: Image.Image) -> list[Detection]:
    """What the cut pass detects: everything above `ABOVE`, and at least the best `AT_LEAST`."""
    predictions = detector.detect(
        image, cut.layers, queries=cut.queries, size=cut.size, every_layer=False
    )
    candidates = predictions.select(cut.layers, 0.0)
    return [
        detection
        for place, detection in enumerate(candidates)
        if detection.score > ABOVE or place < AT_LEAST
    ]


def gap(
    expected: Sequence[Detection],
    scores: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    alike: float = 1.0,
) -> Gap:
    """Compare each expected detection with the nearest candidate of its class.

    Args:
        expected: What `reference` gives.
        scores: [queries], of the export.
        labels: [queries].
        boxes: [queries, 4], corners as shares of the picture.
        size: Width and height of the picture in pixels.
        alike: Share of the detections, the closest, whose differences count.
    """
    sides = np.array([*size, *size])
    gaps = np.ones((len(expected), 2))
    for place, detection in enumerate(expected):
        same = labels == detection.class_id
        if same.any():
            score_gaps = np.abs(scores[same] - detection.score)
            box_gaps = np.abs(boxes[same] - np.array(detection[3:]) / sides).max(axis=1)
            nearest = int(np.maximum(score_gaps, box_gaps).argmin())
            gaps[place] = score_gaps[nearest], box_gaps[nearest]
    count = int(np.ceil(alike * len(gaps)))
    closest = gaps[gaps.max(axis=1).argsort()[:count]]
    score, box = closest.max(axis=0)
    return Gap(float(score), float(box), count, len(gaps))
