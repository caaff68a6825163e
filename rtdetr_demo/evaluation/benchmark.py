"""`python -m rtdetr_demo benchmark`, and what the speed lab runs: how long a picture takes.

Every contender takes the same picture, from decoded pixels to detections. They take turns within
one run, so that whatever else the machine does falls on all of them alike.
"""

import dataclasses
import functools
import os
import platform
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil, pipeline

from ..checkpoints import hub
from ..errors import Cancelled
from ..model.detector import Detector
from ..predictions import Detection, Predictions

PIPELINE = "transformers pipeline"
MATCH_IOU = 0.5


@dataclass(frozen=True)
class Plan:
    """What to time. Empty tuples leave a knob out; `sizes` and `queries` run at full depth."""

    layers: tuple[int, ...]
    queries: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    rounds: int = 20
    threshold: float = 0.5
    runtime: str = "auto"
    pipeline: bool = False
    batch: int = 0


@dataclass(frozen=True)
class Line:
    """Milliseconds of one contender over the rounds: median, 5th and 95th percentile.

    `kind` says which knob `value` is of: "layers", "queries", "size", or none of them.
    `agreement`: how far its detections are those of full depth (F1; see `agreement`).
    """

    contender: str
    median: float
    p5: float
    p95: float
    kind: str = ""
    value: int | None = None
    runtime: str = ""
    agreement: float | None = None

    @classmethod
    def of(cls, contender: str, milliseconds: Sequence[float]) -> "Line":
        p5, p95 = np.percentile(milliseconds, [5, 95])
        return cls(contender, statistics.median(milliseconds), float(p5), float(p95))


@dataclass
class Report:
    """What came of a plan. `stages`: median milliseconds of each stage of a full pass."""

    conditions: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    throughput: dict[str, Any] | None = None

    def to_json(self) -> dict:
        return asdict(self)


def alternate(
    contenders: dict[str, Callable[[], Any]],
    rounds: int,
    on_turn: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:
    """Milliseconds of each contender, `rounds` times in turn, after one turn to warm up.

    The order changes from turn to turn, so that nobody always follows the same one.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names, order, done = list(contenders), random.Random(0), 0
    for turn in range(rounds + 1):
        order.shuffle(names)
        for name in names:
            began = time.perf_counter()
            contenders[name]()
            if turn > 0:
                times[name].append(1000 * (time.perf_counter() - began))
            done += 1
            on_turn(done)
    return times


def agreement(found: Sequence[Detection], reference: Sequence[Detection]) -> float:
    """F1 of two sets of detections: pairs of one class with IoU of at least 0.5, best first."""
    if not found and not reference:
        return 1.0
    left, kept = list(reference), 0
    for one in found:
        same = [other for other in left if other.label == one.label]
        best = max(same, key=lambda other: _iou(one, other), default=None)
        if best is not None and _iou(one, best) >= MATCH_IOU:
            left.remove(best)
            kept += 1
    return 2 * kept / (len(found) + len(reference))


def _iou(one: Detection, other: Detection) -> float:
    width = min(one.xmax, other.xmax) - max(one.xmin, other.xmin)
    height = min(one.ymax, other.ymax) - max(one.ymin, other.ymin)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box.xmax - box.xmin) * (box.ymax - box.ymin) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@dataclass(frozen=True)
class Contender:
    """Our detector at one setting of one knob; `shape` as `Detector.accelerate` takes it."""

    name: str
    kind: str
    value: int
    shape: dict[str, int]
    depth: int | None = None

    def detect(self, detector: Detector, image: Image.Image) -> Predictions:
        return detector.detect(image, self.depth, every_layer=False, **self.shape)


def contenders(detector: Detector, plan: Plan) -> list[list[Contender]]:
    """All that a plan times, in groups that can be ready at the same time: first the depths.

    Raises BadInput for a depth, a size or a number of queries that the checkpoint cannot have.
    """
    depths = [
        Contender(f"{k} of {detector.depth} layers", "layers", k, {}, detector.check_depth(k))
        for k in plan.layers
    ]
    shapes = [
        Contender(f"{k} of {detector.queries} queries", "queries", k, {"queries": k})
        for k in plan.queries
    ] + [Contender(f"size {k}", "size", k, {"size": k}) for k in plan.sizes]
    for one in shapes:
        detector.check_queries(one.shape.get("queries"))
        detector.check_size(one.shape.get("size"))
    return [depths, *([one] for one in shapes)]


def measure(
    detector: Detector,
    image: Image.Image,
    plan: Plan,
    on_progress: Callable[[str, float], None] = lambda what, share: None,
    stop: threading.Event | None = None,
) -> Report:
    """Carry a plan out on a picture. Tells what it does and how far it is (0 to 1).

    Raises BadInput for what the checkpoint cannot have, Cancelled where `stop` was set.
    """
    stop = stop or threading.Event()
    groups = contenders(detector, plan)
    count = sum(map(len, groups))

    def tell(what: str, share: float) -> None:
        if stop.is_set():
            raise Cancelled("The measurement was cancelled.")
        on_progress(what, share)

    report = Report(conditions(detector, plan))
    reference = detector.detect(image, every_layer=False).select(detector.depth, plan.threshold)
    done = 0
    for group in groups:
        share, done = 0.95 * done / count, done + len(group)
        if plan.runtime != "torch":
            tell(f"making {group[0].name} ready", share)
            detector.accelerate(**group[0].shape, half=plan.runtime == "bf16", stop=stop)
        runs: dict[str, Callable[[], Any]] = {
            one.name: functools.partial(one.detect, detector, image) for one in group
        }
        if group is groups[0]:
            runs |= _beside(detector, image, plan)
        step = 0.95 * len(group) / count / (len(runs) * (plan.rounds + 1))
        label = f"timing {group[0].name}" + (" and so on" if len(group) > 1 else "")
        times = alternate(runs, plan.rounds, lambda n: tell(label, share + step * n))  # noqa: B023
        known = {one.name: one for one in group}
        for name, taken in times.items():
            line = Line.of(name, taken)
            if one := known.get(name):
                answer = one.detect(detector, image)
                found = answer.select(answer.layers, plan.threshold)
                line = dataclasses.replace(
                    line,
                    kind=one.kind,
                    value=one.value,
                    runtime=detector.runtime(**one.shape).name,
                    agreement=agreement(found, reference),
                )
            report.lines.append(line)

    tell("timing the stages", 0.97)
    passes = [detector.stage_times(image) for _ in range(max(3, min(plan.rounds, 10)))][1:]
    report.stages = {name: statistics.median(one[name] for one in passes) for name in passes[0]}
    if plan.batch:
        tell(f"timing batches of {plan.batch}", 0.98)
        report.throughput = throughput(detector, image, plan.batch, plan.rounds)
    return report


def _beside(detector: Detector, image: Image.Image, plan: Plan) -> dict[str, Callable[[], Any]]:
    """What is timed beside the depths: the model alone, on pixels that are there already, and
    transformers' pipeline."""
    pixels = detector.prepare([image])
    runs: dict[str, Callable[[], Any]] = {"model alone": lambda: detector.run_model(pixels)}
    if plan.pipeline:
        theirs = the_pipeline(detector.checkpoint, detector.device)
        runs[PIPELINE] = lambda: theirs(image)
    return runs


def throughput(detector: Detector, image: Image.Image, batch: int, rounds: int) -> dict[str, Any]:
    """Pictures a second in batches, model alone, and the share of what a matrix product reaches.

    The second figure sets the operations of the model's convolutions and products against those of
    one large product on the same device in the same precision.
    """
    pixels = detector.prepare([image] * batch)
    times = alternate({"batch": lambda: detector.run_model(pixels)}, rounds + 2)["batch"]
    per_second = batch * 1000 / statistics.median(times)
    operations = FlopCounterMode(display=False)
    with operations, torch.inference_mode():
        detector.torch_backend().stages(pixels[:1], detector.depth, False)
    side = 8192 if detector.device.type == "cuda" else 2048
    factor = torch.rand(side, side, device=detector.device, dtype=detector.model.dtype)

    def product() -> None:
        for _ in range(4):
            torch.mm(factor, factor)
        if detector.device.type == "cuda":
            torch.cuda.synchronize()

    reached = 4 * 2 * side**3 / min(alternate({"product": product}, 5)["product"]) * 1000
    return {
        "batch": batch,
        "pictures_per_second": per_second,
        "gflop_per_picture": operations.get_total_flops() / 1e9,
        "share_of_a_matrix_product": per_second * operations.get_total_flops() / reached,
    }


def conditions(detector: Detector, plan: Plan) -> dict[str, Any]:
    """What a number means little without."""
    cuda = detector.device.type == "cuda"
    return {
        "checkpoint": detector.checkpoint,
        "rounds": plan.rounds,
        "device": torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores",
        "processor": _processor(),
        "precision": detector.precision,
        "size": detector.size[0],
        "queries": detector.queries,
        **{name: version(name) for name in ("torch", "transformers")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(one.split(": ", 1)[1] for one in lines if one.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def the_pipeline(checkpoint: str, device: torch.device) -> Callable[[Image.Image], Any]:
    """transformers' own pipeline on the same files, in fp32, as users get it."""
    folder = hub.local_folder(checkpoint)
    assert folder is not None, "our own detector has just been loaded from it"
    return pipeline(
        "object-detection",
        model=AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32),
        image_processor=RTDetrImageProcessorPil.from_pretrained(folder),
        device=device,
    )
