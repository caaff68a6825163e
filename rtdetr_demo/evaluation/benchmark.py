"""`python -m rtdetr_demo benchmark`, and what the speed lab runs: how long a picture takes.

Every contender takes the same picture, from decoded pixels to detections, and all take turns (see
`latency`). Shapes that need a backend of their own cannot all be ready at once: each takes turns
with the checkpoint's own shape, and is set in proportion to it.
"""

import dataclasses
import os
import platform
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil, pipeline

from ..detector.detector import Detector
from ..predictions import Predictions
from . import latency
from .agreement import agreement
from .latency import Latency, take_turns, timed

PIPELINE = "transformers pipeline"

PRODUCT_SIDE = {"cuda": 8192, "cpu": 2048}
"""Rows of the square matrices whose product shows what a device can reach."""


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
    """Milliseconds of one contender: what it costs (`ms`; see `latency`), how far its passes lie
    apart (`spread`), their median, 5th and 95th percentile.

    `kind` says which knob `value` is of: "layers", "queries", "size", or none of them.
    `agreement`: how far its `detections` are those of full depth (F1; see `agreement`).
    """

    contender: str
    ms: float
    spread: float
    median: float
    p5: float
    p95: float
    kind: str = ""
    value: int | None = None
    runtime: str = ""
    agreement: float | None = None
    detections: tuple[dict, ...] = ()

    @classmethod
    def of(cls, contender: str, times: np.ndarray) -> "Line":
        """`times`: milliseconds [rounds]."""
        p5, median, p95 = map(float, np.percentile(times, [5, 50, 95]))
        return cls(contender, latency.low(times), latency.spread(times), median, p5, p95)


@dataclass
class Report:
    """What came of a plan. `stages`: milliseconds of each stage of a full pass; `latency`: stages
    and depths as one, where every depth was timed."""

    conditions: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    latency: Latency | None = None
    throughput: dict[str, Any] | None = None

    def to_json(self) -> dict:
        return asdict(self) | {"latency": self.latency and self.latency.to_json()}


@dataclass(frozen=True)
class Setting:
    """Our detector at one setting of one knob; `shape` as `Detector.accelerate` takes it."""

    name: str
    kind: str
    value: int
    shape: dict[str, int]
    depth: int | None = None

    def detect(self, detector: Detector, image: Image.Image) -> Predictions:
        return detector.detect(image, self.depth, every_layer=False, **self.shape)

    def contender(self, detector: Detector, image: Image.Image) -> latency.Contender:
        """A contender that passes at this setting; the wait for the device is not timed."""
        return lambda: {self.name: self.detect(detector, image).timing.total}


def settings(detector: Detector, plan: Plan) -> tuple[list[Setting], list[Setting]]:
    """The depths of a plan, and its shapes other than the checkpoint's own.

    Raises BadInput for a depth, a size or a number of queries that the checkpoint cannot have.
    """
    depths = [
        Setting(f"{k} of {detector.depth} layers", "layers", k, {}, detector.check_depth(k))
        for k in plan.layers
    ]
    shapes = [
        Setting(f"{k} of {detector.queries} queries", "queries", k, {"queries": k})
        for k in plan.queries
        if detector.check_queries(k) != detector.queries
    ] + [
        Setting(f"size {k}", "size", k, {"size": k})
        for k in plan.sizes
        if detector.check_size(k) != detector.size
    ]
    return depths, shapes


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
    return _Measurement(detector, image, plan, on_progress, stop).run()


class _Measurement:
    def __init__(
        self,
        detector: Detector,
        image: Image.Image,
        plan: Plan,
        on_progress: Callable[[str, float], None],
        stop: threading.Event | None,
    ):
        self.detector, self.image, self.plan = detector, image, plan
        self.stop = stop or threading.Event()
        self.on_progress = on_progress
        self.depths, self.shapes = settings(detector, plan)
        self.own = Setting("own", "layers", detector.depth, {}, detector.depth)
        self.report = Report(conditions(detector, plan))
        self.reference = self.own.detect(detector, image).select(detector.depth, plan.threshold)
        self.turns = len(self.depths) + 2 * len(self.shapes)
        self.done = 0

    def run(self) -> Report:
        self.time_depths()
        for setting in self.shapes:
            self.time_shape(setting)
        if self.plan.batch:
            self.on_progress(f"timing batches of {self.plan.batch}", 0.98)
            batches = throughput(self.detector, self.image, self.plan.batch, self.plan.rounds)
            self.report.throughput = batches
        return self.report

    def time_depths(self) -> None:
        """And the stages, and what is timed beside them."""
        detector, report, depths = self.detector, self.report, self.plan.layers
        self.make_ready(self.own)
        contenders = latency.passes(detector, self.image, depths)
        contenders += _beside(detector, self.image, self.plan)
        times = self.take_turns("timing depths and stages", contenders, len(depths))
        stages = latency.stage_names(detector.depth)
        report.stages = {name: latency.low(times[name]) for name in stages}
        if depths == tuple(range(1, detector.depth + 1)):
            report.latency = latency.summarize(detector, times)
            report.stages = report.latency.stages_ms
        for setting in self.depths:
            line = self.judged(setting, times[f"depth {setting.value}"])
            if report.latency:
                line = dataclasses.replace(line, ms=report.latency.total_ms[setting.value - 1])
            report.lines.append(line)
        for name in [name for name in ("model alone", PIPELINE) if name in times]:
            report.lines.append(Line.of(name, times[name]))

    def time_shape(self, setting: Setting) -> None:
        self.make_ready(setting)
        pair = [one.contender(self.detector, self.image) for one in (self.own, setting)]
        times = self.take_turns(f"timing {setting.name}", pair, 2)
        taken = times[setting.name]
        if self.report.latency:  # what the machine did meanwhile fell on both of the pair
            taken = taken * self.report.latency.total_ms[-1] / latency.low(times["own"])
        self.report.lines.append(self.judged(setting, taken))

    def make_ready(self, setting: Setting) -> None:
        if self.plan.runtime != "torch" and not self.detector.is_accelerated(**setting.shape):
            self.on_progress(f"making {setting.name} ready", 0.95 * self.done / self.turns)
            half = self.plan.runtime == "bf16"
            self.detector.accelerate(**setting.shape, half=half, stop=self.stop)

    def take_turns(
        self, label: str, contenders: list[latency.Contender], size: int
    ) -> dict[str, np.ndarray]:
        """`size`: how many of all the turns this is."""
        begun, rounds = self.done / self.turns, self.plan.rounds
        step = size / self.turns / len(contenders) / (rounds + 1)
        self.done += size

        def tell(turns: int) -> None:
            self.on_progress(label, 0.95 * (begun + step * turns))

        return take_turns(contenders, rounds, self.stop, tell)

    def judged(self, setting: Setting, times: np.ndarray) -> Line:
        """A line with what the setting finds beside what it takes."""
        answer = setting.detect(self.detector, self.image)
        found = answer.select(answer.layers, self.plan.threshold)
        return dataclasses.replace(
            Line.of(setting.name, times),
            kind=setting.kind,
            value=setting.value,
            runtime=self.detector.runtime(**setting.shape).name,
            agreement=agreement(found, self.reference).f1,
            detections=tuple(one.to_json() for one in found),
        )


def _beside(detector: Detector, image: Image.Image, plan: Plan) -> list[latency.Contender]:
    """What is timed beside the depths: the model alone, on pixels that are there already, and
    transformers' pipeline."""
    pixels = detector.prepare([image])
    runs = [timed("model alone", lambda: detector.run_model(pixels))]
    if plan.pipeline:
        theirs = transformers_pipeline(detector)
        runs.append(timed(PIPELINE, lambda: theirs(image)))
    return runs


def throughput(detector: Detector, image: Image.Image, batch: int, rounds: int) -> dict[str, Any]:
    """Pictures a second in batches, model alone, and the share of what a matrix product reaches.

    The second figure sets the operations of the model's convolutions and products against those of
    one large product on the same device in the same precision.
    """
    pixels = detector.prepare([image] * batch)
    run = timed("batch", lambda: detector.run_model(pixels))
    per_second = batch * 1000 / latency.low(take_turns([run], rounds + 2)["batch"])
    operations = FlopCounterMode(display=False)
    with operations, torch.inference_mode():
        detector.torch_backend().stages(pixels[:1], detector.depth, False)
    side = PRODUCT_SIDE["cuda" if detector.device.type == "cuda" else "cpu"]
    factor = torch.rand(side, side, device=detector.device, dtype=detector.model.dtype)

    def product() -> None:
        for _ in range(4):
            torch.mm(factor, factor)
        if detector.device.type == "cuda":
            torch.cuda.synchronize()

    reached = 4 * 2 * side**3 / min(take_turns([timed("product", product)], 5)["product"]) * 1000
    return {
        "batch": batch,
        "pictures_per_second": per_second,
        "gflop_per_picture": operations.get_total_flops() / 1e9,
        "share_of_a_matrix_product": per_second * operations.get_total_flops() / reached,
    }


def conditions(detector: Detector, plan: Plan) -> dict[str, Any]:
    """What a measurement was made with, by name: checkpoint, device, shape, versions."""
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
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(one.split(": ", 1)[1] for one in lines if one.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def transformers_pipeline(detector: Detector) -> Callable[[Image.Image], Any]:
    """transformers' own pipeline on the detector's files and device, in fp32, as users get it."""
    folder = detector.folder
    assert folder is not None, "the detector was loaded from files"
    return pipeline(
        "object-detection",
        model=AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32),
        image_processor=RTDetrImageProcessorPil.from_pretrained(folder),
        device=detector.device,
    )
