"""AP of every depth on labelled pictures that are read one by one; the numbers of `evaluate`."""

from collections.abc import Sequence
from typing import Any

from ..errors import BadInput
from ..predictions import Predictions
from .coco import match_categories, score, to_coco
from .labels import Labels


class DepthScores:
    """Collects the detections of labelled pictures."""

    def __init__(self, labels: Labels, class_names: Sequence[str], depth: int):
        """Start without pictures.

        Args:
            labels: The labels of the pictures.
            class_names: The checkpoint's classes.
            depth: Its number of decoder layers.

        Raises:
            BadInput: The labels and the checkpoint have no class in common.
        """
        self._labels = labels
        self._ids, self.absent = match_categories(class_names, labels.categories)
        self._results: list[list[dict[str, Any]]] = [[] for _ in range(depth)]
        self._entries: list[dict[str, Any]] = []

    @property
    def labelled(self) -> int:
        """Number of pictures that have labels."""
        return len(self._entries)

    def add(self, file: str, predictions: Predictions) -> None:
        """Count one picture, unless it is not labelled.

        Args:
            file: The picture's path relative to its folder, with slashes.
            predictions: Its detections at all layers.

        Raises:
            BadInput: Its labels cannot be read.
        """
        entry = self._labels.entry(file, predictions.width, predictions.height)
        if entry is None:
            return
        self._entries.append(entry)
        for layers, results in enumerate(self._results, 1):
            results.extend(to_coco(predictions, layers, entry, self._ids))

    def averages(self) -> list[dict[str, float | None]]:
        """COCO's averages of every depth, from 0 to 1. Raises BadInput where no picture was
        labelled."""
        if not self._entries:
            raise BadInput("None of these pictures has labels: names of files and labels differ.")
        instances = {
            "images": self._entries,
            "annotations": self._labels.annotations([entry["id"] for entry in self._entries]),
            "categories": self._labels.categories,
        }
        categories = list(self._ids.values())
        return [score(instances, results, categories)[0] for results in self._results]
