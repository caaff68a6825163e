"""Which decoder depth suits a set of pictures: what each keeps and adds, and the time it saves.

One pass over a picture gives every depth (see `coco`). Full depth is the reference; no labels are
needed. Pictures may be added in any order, and a report can be taken at any time.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import Unprocessable
from ..media.exporters import csv_text
from ..predictions import Detection, Predictions
from .depth_choice import Recommendation, kept_shares, recommend, sentences
from .depth_counts import EVERY, IOUS, SIZES, Group, PictureCounts, count_picture
from .latency import Latency
from .shares import NONE, WHOLE, Share, added_share, kept_share, resampled_sums

WORST = 10
"""Pictures that are listed for each depth."""


@dataclass(frozen=True)
class DepthRow:
    """What one depth keeps and adds of one group of detections, at one least overlap.

    Attributes:
        layers: Decoder layers of this depth.
        iou: Overlap from which a detection is kept.
        kind: "all", "class" or "size".
        group: The class or the size; "all" for all detections.
        reference: Number of detections at full depth.
        kept: How many of them this depth keeps.
        added: Number of detections that full depth does not have.
        kept_share: `kept` for each detection of full depth.
        added_share: `added` for each detection of full depth.
    """

    layers: int
    iou: float
    kind: str
    group: str
    reference: int
    kept: int
    added: int
    kept_share: Share
    added_share: Share


@dataclass(frozen=True)
class PictureLoss:
    """What one depth loses in one picture.

    Attributes:
        layers: Decoder layers of this depth.
        picture: The picture's name.
        reference: Number of detections at full depth.
        lost: Those that this depth does not keep.
    """

    layers: int
    picture: str
    reference: int
    lost: tuple[Detection, ...]

    def words(self) -> str:
        """What is lost, such as "2 person, 1 dog"."""
        counts = Counter(detection.label for detection in self.lost)
        return ", ".join(f"{count} {label}" for label, count in counts.most_common())


@dataclass(frozen=True)
class DepthReport:
    """The result of a study.

    Attributes:
        checkpoint: Name of the checkpoint.
        depth: Its number of decoder layers.
        threshold: Score that detections exceed.
        pictures: Number of pictures.
        unreadable: Pictures that could not be read, with the reason.
        rows: Every depth, IoU and group.
        losses: The pictures that lose most, at each depth, most first.
        recommendation: The fewest layers that are shown to keep enough.
        summary: The recommendation in words.
        latency: Time of every depth on this machine; None where it was not measured.
        averages: COCO's averages of every depth, from 0 to 1, by name; empty without labels.
        labelled: Number of pictures that `averages` rest on.
    """

    checkpoint: str
    depth: int
    threshold: float
    pictures: int
    unreadable: tuple[tuple[str, str], ...]
    rows: tuple[DepthRow, ...]
    losses: tuple[PictureLoss, ...]
    recommendation: Recommendation
    summary: str
    latency: Latency | None = None
    averages: tuple[dict[str, float | None], ...] = ()
    labelled: int = 0

    def overall(self, iou: float) -> list[DepthRow]:
        """The rows of all detections at a least overlap, by depth."""
        return [row for row in self.rows if row.kind == "all" and row.iou == iou]

    def saved_ms(self, layers: int) -> float | None:
        """Milliseconds a picture that a depth saves; None where it was not measured."""
        if self.latency is None:
            return None
        return self.latency.total_ms[-1] - self.latency.total_ms[layers - 1]

    def to_json(self) -> dict[str, Any]:
        """The whole report, with shares and averages from 0 to 1."""
        return {
            "checkpoint": self.checkpoint,
            "decoder_layers": self.depth,
            "threshold": self.threshold,
            "pictures": self.pictures,
            "unreadable": [{"picture": name, "error": why} for name, why in self.unreadable],
            "summary": self.summary,
            "recommendation": {
                **asdict(self.recommendation),
                "has_too_few_pictures": self.recommendation.has_too_few_pictures,
            },
            "latency": self.latency and self.latency.to_json(),
            "labelled_pictures": self.labelled,
            "averages": [
                {"layers": layers, **values} for layers, values in enumerate(self.averages, 1)
            ],
            "depths": [asdict(row) for row in self.rows],
            "losses": [
                {
                    "layers": loss.layers,
                    "picture": loss.picture,
                    "reference": loss.reference,
                    "lost": [detection.to_json() for detection in loss.lost],
                }
                for loss in self.losses
            ],
        }

    def to_csv(self) -> str:
        """The rows, with the time and the averages of their depth."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        shares = [
            f"{name}_{part}" for name in ("kept", "added") for part in ("share", "low", "high")
        ]
        averages = sorted({name for values in self.averages for name in values})
        counts = ["reference", "kept", "added"]
        writer.writerow(
            ["layers", "iou", "kind", "group", *counts, *shares, "ms", "saved_ms", *averages]
        )
        for row in self.rows:
            ends = [row.kept_share, row.added_share]
            numbers = [number for share in ends for number in (share.value, share.low, share.high)]
            taken = self.latency.total_ms[row.layers - 1] if self.latency else None
            values = self.averages[row.layers - 1] if self.averages else {}
            writer.writerow(
                [row.layers, row.iou, row.kind, csv_text(row.group)]
                + [row.reference, row.kept, row.added]
                + [_cell(number, 4) for number in numbers]
                + [_cell(taken, 2), _cell(self.saved_ms(row.layers), 2)]
                + [_cell(values.get(name), 4) for name in averages]
            )
        return table.getvalue()


def _cell(number: float | None, digits: int) -> str:
    return "" if number is None else f"{number:.{digits}f}"


class DepthStudy:
    """Collects what each depth keeps and adds, picture by picture."""

    def __init__(self, checkpoint: str, depth: int, threshold: float):
        """Start without pictures.

        Args:
            checkpoint: Name of the checkpoint.
            depth: Its number of decoder layers.
            threshold: Score that detections exceed.
        """
        self.checkpoint = checkpoint
        self.depth = depth
        self.threshold = threshold
        self.counts: list[PictureCounts] = []
        self.unreadable: list[tuple[str, str]] = []

    def add(self, name: str, predictions: Predictions) -> PictureCounts:
        """Count one picture, of which `predictions` hold all layers."""
        counts = count_picture(name, predictions, self.threshold)
        self.counts.append(counts)
        return counts

    def add_unreadable(self, name: str, reason: str) -> None:
        """Note a picture that could not be read."""
        self.unreadable.append((name, reason))

    def report(
        self,
        keep: float,
        latency: Latency | None = None,
        averages: Sequence[dict[str, float | None]] = (),
        labelled: int = 0,
    ) -> DepthReport:
        """What follows from the pictures so far.

        Args:
            keep: Share of full depth's detections to keep, from 0 to 1.
            latency: Time of every depth on this machine.
            averages: COCO's averages of every depth.
            labelled: Number of pictures that the averages rest on.

        Raises:
            Unprocessable: No picture could be read, or full depth detects nothing in any.
        """
        self._check()
        reference = np.array([picture.reference[EVERY] for picture in self.counts])
        kept = np.array([picture.kept[EVERY][0] for picture in self.counts])
        shares = kept_shares(kept, reference)
        choice = recommend(shares, keep, int(reference.sum()), len(self.counts))
        return DepthReport(
            checkpoint=self.checkpoint,
            depth=self.depth,
            threshold=self.threshold,
            pictures=len(self.counts),
            unreadable=tuple(self.unreadable),
            rows=tuple(row for group in self._groups() for row in self._rows(group)),
            losses=tuple(self._losses()),
            recommendation=choice,
            summary=sentences(choice, shares, saved_in_words(latency, choice.layers)),
            latency=latency,
            averages=tuple(averages),
            labelled=labelled,
        )

    def _check(self) -> None:
        if not self.counts:
            reasons = [reason for _, reason in self.unreadable]
            if len(reasons) == 1:
                raise Unprocessable(reasons[0])
            first = f" {reasons[0]}" if reasons else ""
            raise Unprocessable(f"None of {len(reasons):,} pictures could be read.{first}")
        if not any(picture.reference[EVERY] for picture in self.counts):
            raise Unprocessable(
                f"{self.checkpoint} detects nothing above {self.threshold:g} in "
                f"{len(self.counts):,} photos, so there is nothing to keep. Lower --threshold, or "
                "choose photos with objects that the checkpoint knows."
            )

    def _groups(self) -> list[Group]:
        """The groups that any depth has detections of; classes by their number, most first."""
        totals: Counter[Group] = Counter()
        for picture in self.counts:
            totals.update(picture.reference)
            for group in picture.added:
                totals[group] += 0
        classes = sorted(
            (group for group in totals if group.kind == "class"),
            key=lambda group: (-totals[group], group.name),
        )
        return [EVERY, *classes, *(Group("size", name) for name in SIZES)]

    def _rows(self, group: Group) -> list[DepthRow]:
        zeros = np.zeros((len(IOUS), self.depth), np.int64)
        reference = np.array([picture.reference.get(group, 0) for picture in self.counts])
        kept = np.array([picture.kept.get(group, zeros).ravel() for picture in self.counts])
        added = np.array([picture.added.get(group, zeros).ravel() for picture in self.counts])
        # With the same random numbers as the recommendation, so that their intervals agree.
        sums = resampled_sums(np.column_stack([kept, added, reference]))
        total, columns = int(reference.sum()), kept.shape[1]
        rows = []
        for place in range(columns):
            layers = place % self.depth + 1
            counted = int(kept[:, place].sum()), int(added[:, place].sum())
            shares = (
                kept_share(counted[0], total, sums[:, place], sums[:, -1]),
                added_share(counted[1], total, sums[:, columns + place], sums[:, -1]),
            )
            if layers == self.depth and total:
                shares = WHOLE, NONE
            iou = IOUS[place // self.depth]
            rows.append(DepthRow(layers, iou, group.kind, group.name, total, *counted, *shares))
        return rows

    def _losses(self) -> list[PictureLoss]:
        losses = []
        for layers in range(1, self.depth):
            worst = sorted(self.counts, key=lambda picture: -len(picture.lost[layers - 1]))[:WORST]
            losses += [
                PictureLoss(
                    layers, picture.name, picture.reference[EVERY], picture.lost[layers - 1]
                )
                for picture in worst
                if picture.lost[layers - 1]
            ]
        return losses


def saved_in_words(latency: Latency | None, layers: int) -> str:
    """The time that a depth saves, such as "2.3 ms (6%) a picture"; empty where it was not
    measured, or full depth is meant."""
    if latency is None or layers == len(latency.total_ms):
        return ""
    if latency.within_noise[layers - 1]:
        return "less time than this measurement can tell"
    full, taken = latency.total_ms[-1], latency.total_ms[layers - 1]
    return f"{full - taken:.1f} ms ({100 * (full - taken) / full:.0f}%) a picture on this machine"
