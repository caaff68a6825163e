"""`python -m rtdetr_demo evaluate`: AP of every decoder depth on a COCO file, and its latency.

One pass over the images gives every depth: a decoder layer's output does not depend on the layers
after it, so what layer k says in the full pass is what a decoder cut after layer k says. Latency
is measured apart, on truncated passes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..detector.detector import Detector
from ..errors import BadInput
from ..predictions import Predictions
from .latency import Latency, measure_latency
from .operating_point import OperatingPoint, duplicate_share, operating_point

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
BATCH = 8

# Some checkpoints of the hub spell COCO's classes as Pascal VOC did.
SAME = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}


@dataclass(frozen=True)
class DepthScore:
    """COCO's averages for the first `layers` decoder layers, from 0 to 1.

    `None` where the file holds no object of that kind. `latency_ms`: milliseconds from
    picture to detections. `duplicates`: share of the detections above the report's threshold that
    repeat a better one.
    """

    layers: int
    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    latency_ms: float | None = None
    duplicates: float | None = None


@dataclass(frozen=True)
class Report:
    """What `evaluate` found.

    `absent`: the file's classes that the checkpoint does not know. `point`: what the threshold of
    best F1 gives at the deepest depth. `class_ap`: AP there of each class, 0 to 1.
    """

    checkpoint: str
    images: int
    classes: tuple[str, ...]
    absent: tuple[str, ...]
    device: str
    precision: str
    size: tuple[int, int]
    depths: tuple[DepthScore, ...]
    point: OperatingPoint
    class_ap: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.checkpoint} on {self.images} images, {len(self.classes)} classes, "
            f"{self.size[0]}x{self.size[1]}, {self.device} {self.precision}; AP in percent",
            "layers" + "".join(f"{name:>7}" for name in METRICS) + "     ms  doubles",
        ]
        for depth in self.depths:
            values = [getattr(depth, name) for name in METRICS]
            cells = ["-" if value is None else f"{100 * value:.1f}" for value in values]
            latency = "-" if depth.latency_ms is None else f"{depth.latency_ms:.1f}"
            cells.append(latency)
            doubles = f"{100 * (depth.duplicates or 0):.1f}"
            lines.append(f"{depth.layers:6d}" + "".join(f"{c:>7}" for c in cells) + f"{doubles:>9}")
        lines.append(
            f"At {self.depths[-1].layers} layers F1 is best above {self.point.threshold:.2f}: "
            f"F1 {100 * self.point.f1:.1f}, precision {100 * self.point.precision:.1f}, "
            f"recall {100 * self.point.recall:.1f}; doubles are counted above that."
        )
        if self.absent:
            lines.append(
                f"Left out, because the checkpoint does not know them: {', '.join(self.absent)}."
            )
        return "\n".join(lines)


def match_categories(
    class_names: Sequence[str], categories: Sequence[dict[str, Any]]
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Pair a model's classes with a COCO file's by name, whatever their numbers are.

    Returns the file's category id of each model label that has one, and the names in the file
    that the model does not know. Raises BadInput where they share no class.
    """

    def key(name: str) -> str:
        plain = re.sub(r"[\W_]", "", name.lower())
        return SAME.get(plain, plain)

    label_of = {key(name): label for label, name in enumerate(class_names)}
    ids = {
        label_of[key(category["name"])]: category["id"]
        for category in categories
        if key(category["name"]) in label_of
    }
    if not ids:
        raise BadInput("The checkpoint and the file have no class in common.")
    absent = [item["name"] for item in categories if key(item["name"]) not in label_of]
    return ids, tuple(absent)


def to_coco(
    predictions: Predictions, layer: int, entry: dict[str, Any], ids: dict[int, int]
) -> Iterator[dict[str, Any]]:
    """COCO results of one picture at one layer: `[x, y, width, height]` in the file's pixels.

    The picture may be smaller than the file says, as in a shrunken copy of a set.
    """
    index = layer - 1
    across, down = entry["width"] / predictions.width, entry["height"] / predictions.height
    for score, label, (x0, y0, x1, y1) in zip(
        predictions.scores[index].tolist(),
        predictions.labels[index].tolist(),
        predictions.boxes[index].tolist(),
        strict=True,
    ):
        if label in ids:
            box = [x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down]
            yield {
                "image_id": entry["id"],
                "category_id": ids[label],
                "bbox": box,
                "score": score,
            }


def score(
    instances: dict[str, Any], results: list[dict[str, Any]], categories: Sequence[int]
) -> tuple[dict[str, float | None], dict[int, float]]:
    """The six averages of `METRICS` over these category ids (`None` where there is no object), and
    AP of each category that has objects."""
    if not results:
        return dict.fromkeys(METRICS, 0.0), {}
    truth = COCO(instances, use_deepcopy=True)
    evaluation = COCOeval_faster(truth, truth.loadRes(results), "bbox")
    evaluation.params.catIds = sorted(categories)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = (float(value) for value in evaluation.stats[:6])
    averages = {
        name: None if value < 0 else value for name, value in zip(METRICS, values, strict=True)
    }
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, category]
    each = {
        category: float(precision[:, :, index].mean())
        for index, category in enumerate(evaluation.params.catIds)
        if (precision[:, :, index] >= 0).any()
    }
    return averages, each


def evaluate(
    detector: Detector,
    instances: dict[str, Any],
    images: Path,
    layers: int | None = None,
    timed: bool = True,
) -> Report:
    """Measure the depth `layers`, or every depth, on a COCO file whose pictures lie in `images`.

    Raises BadInput where a picture is missing or unreadable, or the depth does not exist.
    """
    depth = detector.check_depth(layers)
    depths = [depth] if layers is not None else list(range(1, depth + 1))
    ids, absent = match_categories(detector.class_names, instances["categories"])
    results: dict[int, list[dict[str, Any]]] = {layer: [] for layer in depths}
    entries = instances["images"]
    with tqdm(total=len(entries), unit="image", desc="evaluate") as bar:
        for start in range(0, len(entries), BATCH):
            chunk = entries[start : start + BATCH]
            pictures = [_open(images / entry["file_name"]) for entry in chunk]
            answers = detector.detect_batch(pictures, depth)
            for entry, answer in zip(chunk, answers, strict=True):
                for layer in depths:
                    results[layer].extend(to_coco(answer, layer, entry, ids))
            bar.update(len(chunk))
    latency: Latency | None = measure_latency(detector) if timed else None
    scores = {layer: score(instances, results[layer], list(ids.values())) for layer in depths}
    point = operating_point(instances, results[depths[-1]], ids.values())
    names = {category: detector.class_names[label] for label, category in ids.items()}
    return Report(
        checkpoint=detector.checkpoint,
        images=len(entries),
        classes=tuple(detector.class_names[label] for label in sorted(ids)),
        absent=absent,
        device=str(detector.device),
        precision=detector.precision,
        size=detector.size[::-1],
        depths=tuple(
            DepthScore(
                layers=layer,
                **scores[layer][0],
                latency_ms=latency.total_ms[layer - 1] if latency else None,
                duplicates=duplicate_share(results[layer], point.threshold),
            )
            for layer in depths
        ),
        point=point,
        class_ap={names[category]: ap for category, ap in scores[depths[-1]][1].items()},
    )


def plot(report: Report, path: Path) -> None:
    """Draw AP against latency, one point per depth. Raises BadInput where it cannot be written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    across = [depth.latency_ms or 0.0 for depth in report.depths]
    for name, marker in (("AP", "o"), ("AP50", "s")):
        up = [100 * (getattr(depth, name) or 0) for depth in report.depths]
        axes.plot(across, up, marker=marker, label=name)
        for depth, x, y in zip(report.depths, across, up, strict=True):
            axes.annotate(
                str(depth.layers), (x, y), (0, 6), textcoords="offset points", ha="center"
            )
    axes.set_xlabel(f"latency, ms ({report.device}, {report.precision})")
    axes.set_ylabel("percent")
    axes.margins(y=0.15)  # Room for the numbers.
    axes.set_ylim(bottom=0)
    axes.set_title(f"{report.checkpoint}: what each decoder layer buys")
    axes.legend()
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise BadInput(f"{path} could not be written: {error.strerror}.") from None
    finally:
        pyplot.close(figure)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise BadInput(f"{path} could not be read: {error}.") from None
