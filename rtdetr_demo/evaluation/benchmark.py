"""`python -m rtdetr_demo benchmark`, and what the speed lab runs: how long a picture takes.

Every contender takes the same picture, and they take turns (see `latency`). Depths and shapes are
timed from decoded pixels to detections; "model alone" and what other converters make of
transformers' model (see `whole_models`) from prepared pixels to logits and boxes. Shapes that need
a backend of their own cannot all be ready at once: each takes turns with the checkpoint's own
shape, and is set in proportion to it.
"""

import dataclasses
import functools
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
from ..errors import BadInput
from ..predictions import Predictions
from . import latency, whole_models
from .agreement import agreement
from .latency import Execute, Latency, execute_here, take_turns, timed

PIPELINE = "transformers pipeline"

PRODUCT_SIDE = {"cuda": 8192, "cpu": 2048}
"""Rows of the square matrices whose product shows what a device can reach."""


@dataclass(frozen=True)
class Plan:
    """What to time. Empty tuples leave a knob out; `sizes` and `queries` run at full depth.

    `pipeline`: also transformers' pipeline; `converters`: also its model cut at each of `layers`,
    as converted by these of `whole_models.NAMES`.
    """

    layers: tuple[int, ...]
    queries: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    rounds: int = 20
    threshold: float = 0.5
    runtime: str = "auto"
    pipeline: bool = False
    converters: tuple[str, ...] = ()
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


@dataclass(frozen=True)
class Comparison:
    """Milliseconds of the network alone and of `converter`'s whole model, cut at the same depth and
    timed by turns. `share`: of the latter that the former takes."""

    converter: str
    depth: int
    network_ms: float
    whole_model_ms: float
    share: float


@dataclass
class Report:
    """What came of a plan. `stages`: milliseconds of each stage of a full pass; `latency`: stages
    and depths as one; `converted`: how the network compares with what the plan's `converters` make
    of transformers' model."""

    conditions: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    latency: Latency | None = None
    throughput: dict[str, Any] | None = None
    converted: list[Comparison] = field(default_factory=list)

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
    execute: Execute = execute_here,
) -> Report:
    """Carry a plan out on a picture. Tells what it does and how far it is (0 to 1).

    `execute` runs each timed turn by itself, and what else needs the device.

    Raises BadInput for what the checkpoint or this machine cannot have, Cancelled where `stop` was
    set.
    """
    return _Measurement(detector, image, plan, on_progress, stop, execute).run()


class _Measurement:
    def __init__(
        self,
        detector: Detector,
        image: Image.Image,
        plan: Plan,
        on_progress: Callable[[str, float], None],
        stop: threading.Event | None,
        execute: Execute,
    ):
        self.detector, self.image, self.plan = detector, image, plan
        self.execute = execute
        self.stop = stop or threading.Event()
        self.on_progress = on_progress
        self.depths, self.shapes = settings(detector, plan)
        self.own = Setting("own", "layers", detector.depth, {}, detector.depth)
        self.report = Report(conditions(detector, plan))
        if plan.converters and detector.device.type != "cpu":
            raise BadInput("Converted models run on the CPU: add --device cpu.")
        answer = execute(lambda: self.own.detect(detector, image))
        self.reference = answer.select(detector.depth, plan.threshold)
        self.turns = 2 * detector.depth + 2 * len(self.shapes)
        self.done = 0

    def run(self) -> Report:
        self.time_depths()
        for setting in self.shapes:
            self.time_shape(setting)
        if self.plan.batch:
            self.on_progress(f"timing batches of {self.plan.batch}", 0.98)
            plan = self.plan
            self.report.throughput = throughput(
                self.detector, self.image, plan.batch, plan.rounds, self.stop, self.execute
            )
        return self.report

    def time_depths(self) -> None:
        """And the stages, and what is timed beside them."""
        detector, report, plan = self.detector, self.report, self.plan
        self.make_ready(self.own)
        self.done = 2 * detector.depth
        turns = latency.time_parts(
            detector,
            self.image,
            plan.rounds,
            self.stop,
            lambda share: self.on_progress(
                "timing depths and stages", 0.95 * share * self.done / self.turns
            ),
            self.execute,
            self.beside if plan.pipeline or plan.converters else None,
        )
        times = latency.scaled(turns)
        report.latency = latency.summarize(detector, turns, detector.runtime().name)
        report.stages = report.latency.stages_ms
        around = report.stages["preprocess"] + report.stages["postprocess"]
        for setting in self.depths:
            line = self.judged(setting, times[f"depth {setting.value}"] + around)
            total = report.latency.total_ms[setting.value - 1]
            report.lines.append(dataclasses.replace(line, ms=total))
        report.lines.append(Line.of("model alone", times[f"depth {detector.depth}"]))
        if plan.pipeline:
            report.lines.append(Line.of(PIPELINE, times[PIPELINE]))
        for converter in plan.converters:
            for depth in plan.layers:
                name = converted_name(converter, depth)
                report.lines.append(Line.of(name, times[name]))
                network, whole = latency.low(times[f"depth {depth}"]), latency.low(times[name])
                report.converted.append(
                    Comparison(converter, depth, network, whole, network / whole)
                )

    def beside(self, depth: int) -> list[latency.Contender]:
        """What takes turns with the pass that ends at this depth."""
        detector, contenders = self.detector, list[latency.Contender]()
        assert detector.folder is not None, "the detector was loaded from files"
        pixels = self.execute(lambda: detector.prepare([self.image]))
        for converter in self.plan.converters if depth in self.plan.layers else ():
            run = whole_models.prepare(converter, detector.folder, depth, detector.size)
            work = functools.partial(run, pixels)
            contenders.append(timed(converted_name(converter, depth), work))
        if self.plan.pipeline and depth == detector.depth:
            pipeline = transformers_pipeline(detector)
            contenders.append(timed(PIPELINE, lambda: pipeline(self.image)))
        return contenders

    def time_shape(self, setting: Setting) -> None:
        self.make_ready(setting)
        pair = [candidate.contender(self.detector, self.image) for candidate in (self.own, setting)]
        times = self.take_turns(f"timing {setting.name}", pair, 2)
        taken = times[setting.name]
        if self.report.latency:  # what the machine did meanwhile fell on both of the pair
            taken = taken * self.report.latency.total_ms[-1] / latency.low(times["own"])
        self.report.lines.append(self.judged(setting, taken))

    def make_ready(self, setting: Setting) -> None:
        if self.plan.runtime != "torch" and not self.detector.is_accelerated(**setting.shape):
            self.on_progress(f"preparing {setting.name}", 0.95 * self.done / self.turns)
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

        return take_turns(contenders, rounds, self.stop, tell, self.execute)

    def judged(self, setting: Setting, times: np.ndarray) -> Line:
        """A line with what the setting finds beside what it takes."""
        answer = self.execute(lambda: setting.detect(self.detector, self.image))
        found = answer.select(answer.layers, self.plan.threshold)
        return dataclasses.replace(
            Line.of(setting.name, times),
            kind=setting.kind,
            value=setting.value,
            runtime=self.detector.runtime(**setting.shape).name,
            agreement=agreement(found, self.reference).f1,
            detections=tuple(detection.to_json() for detection in found),
        )


def converted_name(converter: str, depth: int) -> str:
    """What reports call a converter's whole model cut at a depth."""
    return f"{whole_models.NAMES[converter]}, {depth} layers"


def throughput(
    detector: Detector,
    image: Image.Image,
    batch: int,
    rounds: int,
    stop: threading.Event | None = None,
    execute: Execute = execute_here,
) -> dict[str, Any]:
    """Pictures a second in batches, model alone, and the share of what a matrix product reaches.

    The second figure sets the operations of the model's convolutions and products against those of
    one large product on the same device in the same precision.
    """
    pixels = execute(lambda: detector.prepare([image] * batch))
    run = timed("batch", lambda: detector.run(pixels, detector.depth, False))
    taken = take_turns([run], rounds + 2, stop, execute=execute)["batch"]
    per_second = batch * 1000 / latency.low(taken)
    operations = FlopCounterMode(display=False)

    def count() -> None:
        with operations, torch.inference_mode():
            detector.torch_backend().stages(pixels[:1], detector.depth, False)

    execute(count)
    side = PRODUCT_SIDE["cuda" if detector.device.type == "cuda" else "cpu"]
    factor = torch.rand(side, side, device=detector.device, dtype=detector.model.dtype)

    def product() -> None:
        for _ in range(4):
            torch.mm(factor, factor)
        if detector.device.type == "cuda":
            torch.cuda.synchronize()

    products = take_turns([timed("product", product)], 5, stop, execute=execute)["product"]
    reached = 4 * 2 * side**3 / min(products) * 1000
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
        **{name: version(name) for name in ("torch", "transformers", *plan.converters)},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
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
