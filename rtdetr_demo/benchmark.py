"""`python -m rtdetr_demo benchmark`, and what the speed lab runs: how long a picture takes.

Every contender takes the same picture, from decoded pixels to detections. They take turns within
one run, so that whatever else the machine does falls on all of them alike.
"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import random
import statistics
import sys
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

from . import hub
from .checkpoints import BUNDLED
from .detect import load
from .detector import Detector
from .errors import BadInput, Cancelled
from .predictions import Detection, Predictions
from .settings import RUNTIMES

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
        detector.plain_runtime().stages(pixels[:1], detector.depth, False)
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled'")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best that is there)")
    parser.add_argument("--picture", type=Path, help="a photograph (default: 640x480 noise)")
    parser.add_argument(
        "--against", choices=["pipeline"], help="time transformers' pipeline beside us"
    )
    parser.add_argument("--layers", default="all", metavar="all|K", help="depths to time (all)")
    parser.add_argument("--queries", type=int, nargs="+", default=[], help="numbers of queries")
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="input sizes in pixels")
    parser.add_argument("--batch", type=int, default=0, help="also time batches of this many")
    parser.add_argument("--rounds", type=int, default=20, help="timed passes of each (20)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto", help="as of app.py (auto)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers")


def run(options: argparse.Namespace) -> int:
    if options.layers != "all" and not options.layers.isdecimal():
        raise BadInput("--layers is 'all' or a whole number.")
    if options.rounds < 1:
        raise BadInput("--rounds is at least 1.")
    if options.batch < 0:
        raise BadInput("--batch is at least 1.")
    image = _picture(options.picture)
    detector = load(options.checkpoint, _device(options.device))
    every = options.layers == "all"
    plan = Plan(
        layers=tuple(range(1, detector.depth + 1)) if every else (int(options.layers),),
        queries=tuple(options.queries),
        sizes=tuple(options.sizes),
        rounds=options.rounds,
        runtime=options.runtime,
        pipeline=options.against == "pipeline",
        batch=options.batch,
    )
    report = measure(detector, image, plan, _tell)
    print(file=sys.stderr)
    _print(report)
    if options.json:
        try:
            options.json.write_text(json.dumps(report.to_json(), indent=2) + "\n")
        except OSError as error:
            raise BadInput(f"{options.json} could not be written: {error.strerror}.") from None
    return 0


def _tell(what: str, share: float) -> None:
    print(f"\r{share:4.0%} {what:40.40}", end="", file=sys.stderr, flush=True)


def _print(report: Report) -> None:
    print(", ".join(f"{name} {value}" for name, value in report.conditions.items()))
    deepest = [line for line in report.lines if line.kind == "layers"][-1]
    head = f"{'median ms':>10}{'p5':>9}{'p95':>9}{'of ' + deepest.contender:>20}{'agreement':>11}"
    print(f"{'':24}{head}  runtime")
    for line in report.lines:
        share = f"{line.median / deepest.median:.2f}x"
        agrees = "" if line.agreement is None else f"{line.agreement:.2f}"
        print(
            f"{line.contender:24}{line.median:10.1f}{line.p5:9.1f}{line.p95:9.1f}"
            f"{share:>20}{agrees:>11}  {line.runtime}"
        )
    print("stages: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in report.stages.items()))
    if report.throughput:
        print(", ".join(f"{name} {value:.4g}" for name, value in report.throughput.items()))


def _device(name: str | None) -> torch.device | None:
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise BadInput(f"There is no device {name[:20]} here. Choose cpu, cuda or mps.") from None
    return device


def _picture(path: Path | None) -> Image.Image:
    if path is None:
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        return Image.fromarray(noise)
    from .sources import read_picture

    try:
        return read_picture(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}.") from None
