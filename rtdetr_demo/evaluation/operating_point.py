"""What a threshold gives: precision, recall, F1, and how many detections repeat another one.

Boxes are COCO's `[x, y, width, height]` in pixels.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MATCH_IOU = 0.5
"""A detection finds an object of its class if they overlap at least so much."""

DUPLICATE_IOU = 0.7
"""A detection repeats a better one of its class if they overlap more than this."""


@dataclass(frozen=True)
class OperatingPoint:
    """What detections that score above `threshold` reach on a labelled set, each from 0 to 1.

    `duplicates` is the share of them that overlap a better one of the same class by an IoU over
    `DUPLICATE_IOU`.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    duplicates: float


def iou_matrix(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU `[n, m]` of boxes `[n, 4]` and `[m, 4]`, each x, y, width, height (COCO)."""
    boxes, others = boxes.reshape(-1, 1, 4), others.reshape(1, -1, 4)
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    common = (high - low).clip(0).prod(-1)
    union = boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - common
    return common / np.maximum(union, 1e-9)


def operating_point(
    instances: dict[str, Any],
    results: Sequence[dict[str, Any]],
    categories: Iterable[int],
    threshold: float | None = None,
) -> OperatingPoint:
    """Judge COCO results at a threshold; by default at the one where F1 is best.

    Objects marked as crowds, and detections that find nothing else, do not count.
    """
    wanted = set(categories)
    objects = _group(instances["annotations"], wanted)
    found = _group(results, wanted)
    total = sum(not entry.get("iscrowd") for group in objects.values() for entry in group)
    rows: list[tuple[float, bool]] = []
    for key, group in found.items():
        group.sort(key=lambda entry: -entry["score"])
        truth = objects.get(key, [])
        boxes = np.array([entry["bbox"] for entry in group], float)
        overlap = iou_matrix(boxes, np.array([entry["bbox"] for entry in truth], float))
        crowd = np.array([bool(entry.get("iscrowd")) for entry in truth], bool)
        free = ~crowd
        for one, row in zip(group, overlap, strict=True):
            candidates = np.where(free, row, 0.0)
            best = int(candidates.argmax()) if len(candidates) else -1
            if best >= 0 and candidates[best] >= MATCH_IOU:
                free[best] = False
                rows.append((one["score"], True))
            elif not _inside(one["bbox"], truth, crowd):
                rows.append((one["score"], False))
    rows.sort(reverse=True)
    scores = np.array([score for score, _ in rows])
    hits = np.cumsum([hit for _, hit in rows]) if rows else np.zeros(0)
    if threshold is None:
        counts = np.arange(1, len(rows) + 1)
        f1 = 2 * hits / (counts + total) if len(rows) else np.zeros(0)
        best = int(f1.argmax()) if len(rows) else 0
        # Halfway to the next score, so that rounding does not move a detection across.
        below = scores[best + 1] if best + 1 < len(scores) else 0.0
        threshold = float((scores[best] + below) / 2) if len(rows) else 0.5
    kept = int((scores > threshold).sum())
    correct = int(hits[kept - 1]) if kept else 0
    precision, recall = correct / max(kept, 1), correct / max(total, 1)
    return OperatingPoint(
        threshold=threshold,
        precision=precision,
        recall=recall,
        f1=2 * correct / max(kept + total, 1),
        duplicates=duplicate_share(results, threshold),
    )


def duplicate_share(results: Iterable[dict[str, Any]], threshold: float) -> float:
    """The share of the detections above a threshold that repeat a better one (0 to 1)."""
    count = repeated = 0
    for group in _group((entry for entry in results if entry["score"] > threshold), None).values():
        group.sort(key=lambda entry: -entry["score"])
        boxes = np.array([entry["bbox"] for entry in group], float)
        count += len(group)
        repeated += int(np.tril(iou_matrix(boxes, boxes) > DUPLICATE_IOU, -1).any(1).sum())
    return repeated / max(count, 1)


def _group(
    entries: Iterable[dict[str, Any]], categories: set[int] | None
) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Entries by picture and class."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        if categories is None or entry["category_id"] in categories:
            groups[entry["image_id"], entry["category_id"]].append(entry)
    return groups


def _inside(box: Sequence[float], truth: Sequence[dict[str, Any]], crowd: np.ndarray) -> bool:
    """Whether most of a box lies in one crowd, as COCO's metric judges it."""
    x, y, width, height = box
    for instance, is_crowd in zip(truth, crowd, strict=True):
        if is_crowd:
            left, top, across, down = instance["bbox"]
            wide = min(x + width, left + across) - max(x, left)
            high = min(y + height, top + down) - max(y, top)
            if wide > 0 and high > 0 and wide * high >= MATCH_IOU * width * height:
                return True
    return False
