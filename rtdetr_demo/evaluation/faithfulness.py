"""Whether the places that a detection looked at are what it rests on.

For each detection the share `BLOTTED` of the picture is painted over with the picture's mean colour
in three ways: where most of its sampling weight lies; at random inside its box; at random outside.
The more a way takes from its score, the more the detection rests on those pixels.
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
    from ..model.detector import Detector
    from ..model.inspection import Inspection

BLOTTED = 0.05
CELLS = 32
"""Of the picture, a side: it is blotted out in whole cells."""

LITTLE_MORE = 1.25
"""Falls within this factor are told as nearly alike."""

WAYS = ("weight", "inside", "outside")

FILE = "faithfulness.json"
"""What was measured of a checkpoint, beside its weights: `shipped` reads it."""


@dataclass(frozen=True)
class Faithfulness:
    """Mean fall of the score, over detections, for each way to blot out the same area.

    `wins`: the share of detections whose score falls more by `weight` than by each other way.
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
        more = {way for way, (low, _) in self.interval.items() if low > 0}
        if more == {"inside", "outside"}:
            little = fall["weight"] < LITTLE_MORE * fall["inside"]
            verdict = "So a detection does rest on the places that it looked at" + (
                ", if only a little more than on the rest of its box." if little else "."
            )
        elif more == {"outside"}:
            verdict = (
                "So the places tell which object a detection looked at, but not which parts of it "
                "decide: do not read more into single dots."
            )
        else:
            verdict = "So these are not the places that a detection rests on: trust them with care."
        return (
            f"Put to the test on {self.detections} detections of this checkpoint in "
            f"{self.pictures} photographs: blotting out the {100 * BLOTTED:.0f} % of the picture "
            f"where most of the weight lies takes {fall['weight']:.2f} from a score of "
            f"{self.score:.2f}; as much at random inside the box takes {fall['inside']:.2f}, "
            f"outside it {fall['outside']:.2f}. {verdict}"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.detections} detections in {self.pictures} pictures, mean score "
            f"{self.score:.3f}; {100 * BLOTTED:.0f} % of the picture blotted out",
            "where                  score falls by   `weight` takes more in   difference (95 %)",
            f"most sampling weight   {self.fall['weight']:14.3f}",
        ]
        for way, words in (("inside", "at random, in the box"), ("outside", "at random, outside")):
            low, high = self.interval[way]
            lines.append(
                f"{words:<22} {self.fall[way]:14.3f}   {100 * self.wins[way]:20.0f} %   "
                f"{low:+.3f} to {high:+.3f}"
            )
        return "\n".join(lines)


def measure_faithfulness(
    detector: "Detector", images: list[Path], threshold: float = 0.5, seed: int = 0
) -> Faithfulness:
    """Blot out what the detections above `threshold` after the last layer looked at.

    Left out are detections whose box is smaller than what is blotted out: there is no such area
    inside. Three passes for each detection.
    """
    from ..model.inspection import inspect

    random = np.random.default_rng(seed)
    rows: list[tuple[int, float, dict[str, float]]] = []
    for number, path in enumerate(tqdm(images, unit="image", desc="faithfulness")):
        image = read_picture(path.read_bytes())
        found = inspect(detector, image)
        for query in found.best(5, threshold):
            masks = _masks(found, query, random)
            if masks is None:
                continue
            blotted = [_blot(image, masks[way]) for way in WAYS]
            left = [_score_left(found, query, one) for one in detector.detect_batch(blotted)]
            score = float(found.scores[-1, query])
            falls = {way: score - now for way, now in zip(WAYS, left, strict=True)}
            rows.append((number, score, falls))
    return _summary(rows, len(images), random)


def shipped(folder: Path) -> Faithfulness | None:
    """What was measured of the checkpoint in a folder; None where nothing was, or of other weights
    than those that lie there now."""
    try:
        content = json.loads((folder / FILE).read_text())
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
    """Cells to blot out in each way, bool [CELLS, CELLS]; None where the box is too small."""
    count = round(BLOTTED * CELLS * CELLS)
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


def _blot(image: Image.Image, mask: np.ndarray) -> Image.Image:
    pixels = np.array(image)
    large = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        image.size, Image.Resampling.NEAREST
    )
    pixels[np.asarray(large) > 0] = pixels.mean((0, 1)).round().astype(np.uint8)
    return Image.fromarray(pixels)


def _score_left(found: "Inspection", query: int, predictions: Any) -> float:
    """The best score of the same class in the same place (IoU 0.5) after the last layer."""
    from ..model.inspection import iou

    label = found.labels[-1, query]
    same = (iou(predictions.boxes[-1], found.boxes[-1, query]) >= 0.5) & (
        predictions.labels[-1] == label
    )
    return float(predictions.scores[-1][same].max(initial=0.0))


def _summary(
    rows: list[tuple[int, float, dict[str, float]]], pictures: int, random: np.random.Generator
) -> Faithfulness:
    falls = {way: np.array([row[2][way] for row in rows]) for way in WAYS}
    of = np.array([row[0] for row in rows])
    others = WAYS[1:]
    return Faithfulness(
        detections=len(rows),
        pictures=len(set(of.tolist())),
        score=float(np.mean([row[1] for row in rows])) if rows else 0.0,
        fall={way: float(fall.mean()) if rows else 0.0 for way, fall in falls.items()},
        wins={w: float((falls["weight"] > falls[w]).mean()) if rows else 0.0 for w in others},
        interval={w: _interval(falls["weight"] - falls[w], of, random) for w in others},
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
