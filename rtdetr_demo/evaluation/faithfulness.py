"""Whether the places that a detection looked at are what it rests on.

For each detection the share `OCCLUDED_SHARE` of the picture is painted over with the picture's mean
colour in three regions: where most of its sampling weight lies; at random inside its box; at random
outside. The more a region takes from its score, the more the detection rests on those pixels.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..media.images import read_picture

if TYPE_CHECKING:
    from ..detector.detector import Detector
    from ..detector.inspection import Inspection

OCCLUDED_SHARE = 0.05
CELLS = 32
"""Of the picture, a side: it is occluded in whole cells."""

LITTLE_MORE = 1.25
"""Drops of the score within this factor are told as nearly alike."""

REGIONS = ("weight", "inside", "outside")

FILE = "faithfulness.json"
"""What was measured of a checkpoint, beside its weights: `shipped` reads it."""


@dataclass(frozen=True)
class Faithfulness:
    """Mean drop of the score (`fall`), over detections, for each region; all are of the same area.

    `wins`: the share of detections whose score drops more by `weight` than by each other region.
    `interval`: of the mean difference to `weight`, 95 %, by resampling pictures.
    """

    detections: int
    pictures: int
    score: float
    fall: dict[str, float]
    wins: dict[str, float]
    interval: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Figures to 0.001."""
        return json.loads(json.dumps(asdict(self)), parse_float=_rounded)

    def sentence(self) -> str:
        """What was found, for visitors, with what is to be thought of it."""
        fall = self.fall
        more = {region for region, (low, _) in self.interval.items() if low > 0}
        if more == {"inside", "outside"}:
            little = fall["weight"] < LITTLE_MORE * fall["inside"]
            verdict = "So detections do depend on their sampling points" + (
                ", though only a little more than on the rest of the box." if little else "."
            )
        elif more == {"outside"}:
            verdict = (
                "So the sampling points show which object a detection is about, but not which of "
                "its parts matter: do not read much into single dots."
            )
        else:
            verdict = (
                "So detections do not depend on their sampling points: read them with caution."
            )
        return (
            f"Tested on {self.detections} detections in {self.pictures} photos: covering the "
            f"{100 * OCCLUDED_SHARE:.0f}% of the picture with the most attention lowers the score "
            f"of {self.score:.2f} by {fall['weight']:.2f}; covering as much at random lowers it by "
            f"{fall['inside']:.2f} inside the box and by {fall['outside']:.2f} outside. {verdict}"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.detections} detections in {self.pictures} pictures, mean score "
            f"{self.score:.3f}; {100 * OCCLUDED_SHARE:.0f} % of the picture blotted out",
            "where                  score falls by   `weight` takes more in   difference (95 %)",
            f"most sampling weight   {self.fall['weight']:14.3f}",
        ]
        for region, words in (
            ("inside", "at random, in the box"),
            ("outside", "at random, outside"),
        ):
            low, high = self.interval[region]
            lines.append(
                f"{words:<22} {self.fall[region]:14.3f}   {100 * self.wins[region]:20.0f} %   "
                f"{low:+.3f} to {high:+.3f}"
            )
        return "\n".join(lines)


def measure_faithfulness(
    detector: "Detector", images: list[Path], threshold: float = 0.5, seed: int = 0
) -> Faithfulness:
    """Occlude what the detections above `threshold` after the last layer looked at.

    Left out are detections whose box is smaller than what is occluded: there is no such area
    inside. Three passes for each detection.
    """
    from ..detector.inspection import inspect

    random = np.random.default_rng(seed)
    rows: list[tuple[int, float, dict[str, float]]] = []
    for number, path in enumerate(tqdm(images, unit="image", desc="faithfulness")):
        image = read_picture(path.read_bytes())
        found = inspect(detector, image)
        for query in found.best(5, threshold):
            masks = _masks(found, query, random)
            if masks is None:
                continue
            occluded = [_occlude(image, masks[region]) for region in REGIONS]
            left = [
                _score_left(found, query, predictions)
                for predictions in detector.detect_batch(occluded)
            ]
            score = float(found.scores[-1, query])
            drops = {region: score - now for region, now in zip(REGIONS, left, strict=True)}
            rows.append((number, score, drops))
    return _summary(rows, len(images), random)


def shipped(folder: Path) -> Faithfulness | None:
    """What was measured of the checkpoint in a folder; None where nothing was, or of other weights
    than those that lie there now."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except OSError:
        return None
    if content.pop("weights") != weights_digest(folder):
        return None
    return Faithfulness(**content)


def weights_digest(folder: Path) -> str:
    """The start of SHA-256 over a folder's weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def weight_map(found: "Inspection", query: int) -> np.ndarray:
    """float [CELLS, CELLS]: a query's sampling weight, summed over layers, heads and maps."""
    places = found.places[:, query].reshape(-1, 2) / [found.width, found.height]
    cells = np.floor(places * CELLS).astype(int)
    within = ((cells >= 0) & (cells < CELLS)).all(1)
    weights = found.weights[:, query].ravel()
    mass = np.zeros((CELLS, CELLS))
    np.add.at(mass, (cells[within, 1], cells[within, 0]), weights[within])
    return mass


def _masks(
    found: "Inspection", query: int, random: np.random.Generator
) -> dict[str, np.ndarray] | None:
    """Cells to occlude for each region, bool [CELLS, CELLS]; None where the box is too small."""
    count = round(OCCLUDED_SHARE * CELLS * CELLS)
    half_cells = 2 * CELLS / np.tile([found.width, found.height], 2)
    x0, y0, x1, y1 = found.boxes[-1, query] * half_cells
    middle = 2 * np.arange(CELLS) + 1  # of each cell, in half cells
    inside = np.outer((middle > y0) & (middle < y1), (middle > x0) & (middle < x1))
    if min(inside.sum(), (~inside).sum()) < count:
        return None
    mass = weight_map(found, query)
    order = np.argsort(-(mass + 1e-9 * random.random(mass.shape)), axis=None)
    return {
        "weight": _chosen(order[:count]),
        "inside": _chosen(random.choice(np.flatnonzero(inside), count, replace=False)),
        "outside": _chosen(random.choice(np.flatnonzero(~inside), count, replace=False)),
    }


def _chosen(cells: np.ndarray) -> np.ndarray:
    mask = np.zeros(CELLS * CELLS, dtype=bool)
    mask[cells] = True
    return mask.reshape(CELLS, CELLS)


def _occlude(image: Image.Image, mask: np.ndarray) -> Image.Image:
    pixels = np.array(image)
    large = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        image.size, Image.Resampling.NEAREST
    )
    pixels[np.asarray(large) > 0] = pixels.mean((0, 1)).round().astype(np.uint8)
    return Image.fromarray(pixels)


def _score_left(found: "Inspection", query: int, predictions: Any) -> float:
    """The best score of the same class in the same place (IoU 0.5) after the last layer."""
    from ..detector.inspection import iou

    label = found.labels[-1, query]
    same = (iou(predictions.boxes[-1], found.boxes[-1, query]) >= 0.5) & (
        predictions.labels[-1] == label
    )
    return float(predictions.scores[-1][same].max(initial=0.0))


def _summary(
    rows: list[tuple[int, float, dict[str, float]]], pictures: int, random: np.random.Generator
) -> Faithfulness:
    drops = {region: np.array([row[2][region] for row in rows]) for region in REGIONS}
    of = np.array([row[0] for row in rows])
    others = REGIONS[1:]
    return Faithfulness(
        detections=len(rows),
        pictures=len(set(of.tolist())),
        score=float(np.mean([row[1] for row in rows])) if rows else 0.0,
        fall={region: float(drop.mean()) if rows else 0.0 for region, drop in drops.items()},
        wins={r: float((drops["weight"] > drops[r]).mean()) if rows else 0.0 for r in others},
        interval={r: _interval(drops["weight"] - drops[r], of, random) for r in others},
    )


def _interval(
    difference: np.ndarray, of: np.ndarray, random: np.random.Generator
) -> tuple[float, float]:
    groups = [difference[of == number] for number in np.unique(of)]
    if not groups:
        return 0.0, 0.0
    means = [np.concatenate(list(_resampled(groups, random))).mean() for _ in range(1000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _resampled(groups: list[np.ndarray], random: np.random.Generator) -> Iterator[np.ndarray]:
    for index in random.integers(0, len(groups), len(groups)):
        yield groups[index]


def _rounded(number: str) -> float:
    return round(float(number), 3) + 0.0  # which is never -0.0
