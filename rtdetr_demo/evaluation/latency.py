"""What one pass costs, stage by stage and depth by depth.

Whatever else a machine does makes a pass slower, never faster. So what is compared takes turns
within one run, a low quantile of the rounds stands for the cost, and what must add up is fitted:
a pass is the sum of its stages, and no stage takes less than nothing.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.optimize import nnls

from ..errors import Cancelled

if TYPE_CHECKING:
    from ..detector.detector import Detector

ROUNDS = 8
"""Timed rounds of one measurement."""

LOW = 0.25
"""The quantile of the rounds that stands for a cost."""

RESAMPLES = 100
"""Draws of the rounds, with replacement, from which the error of an estimate is taken."""

Contender = Callable[[], Mapping[str, float]]
"""Does its work once and gives milliseconds by name."""


def timed(name: str, work: Callable[[], Any]) -> Contender:
    """A contender whose milliseconds are those of the whole call."""

    def run() -> dict[str, float]:
        began = time.perf_counter()
        work()
        return {name: 1000 * (time.perf_counter() - began)}

    return run


def take_turns(
    contenders: Sequence[Contender],
    rounds: int,
    stop: threading.Event | None = None,
    on_turn: Callable[[int], None] = lambda done: None,
) -> dict[str, np.ndarray]:
    """Milliseconds by name, [rounds], after one round to warm up.

    The order changes from round to round, so that nobody always follows the same one. Raises
    Cancelled where `stop` was set.
    """
    times: dict[str, list[float]] = {}
    turns, order, done = list(contenders), random.Random(0), 0
    for number in range(rounds + 1):
        order.shuffle(turns)
        for turn in turns:
            if stop and stop.is_set():
                raise Cancelled("The measurement was cancelled.")
            for name, milliseconds in turn().items():
                if number > 0:
                    times.setdefault(name, []).append(milliseconds)
            done += 1
            on_turn(done)
    return {name: np.array(taken) for name, taken in times.items()}


def low(times: np.ndarray) -> float:
    """What is taken as the cost: the `LOW` quantile of the milliseconds of all rounds."""
    return float(np.quantile(times, LOW))


def spread(times: np.ndarray) -> float:
    """Half of the range that the middle 60 percent of the rounds lie in."""
    return float(np.subtract(*np.quantile(times, [0.8, 0.2])) / 2)


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a decoded picture to detections.

    `stages_ms`: of each stage in order: preprocess, backbone, encoder, "decoder layer 1" and so on,
    postprocess. `total_ms`: at each depth; index 0 is one layer. These are sums of stages, so more
    layers never cost less. `spread_ms`: how far passes lie apart (see `spread`). `within_noise`:
    whether what a depth saves is too small for this measurement to tell.
    """

    device: str
    runtime: str
    precision: str
    size: tuple[int, int]
    rounds: int
    stages_ms: dict[str, float]
    total_ms: tuple[float, ...]
    spread_ms: tuple[float, ...]
    within_noise: tuple[bool, ...]

    def to_json(self) -> dict:
        return {
            "device": self.device,
            "runtime": self.runtime,
            "precision": self.precision,
            "size": list(self.size),
            "rounds": self.rounds,
            "stages_ms": {name: round(ms, 2) for name, ms in self.stages_ms.items()},
            "total_ms": [round(ms, 2) for ms in self.total_ms],
            "spread_ms": [round(ms, 2) for ms in self.spread_ms],
            "within_noise": list(self.within_noise),
        }


def passes(detector: "Detector", image: Image.Image, depths: Sequence[int] = ()) -> list[Contender]:
    """One contender per depth, "depth 1" and so on (all by default), and one of the stages."""

    def at(depth: int) -> Contender:
        def run() -> dict[str, float]:
            timing = detector.detect(image, depth, every_layer=False).timing
            return {f"depth {depth}": timing.total}

        return run

    return [
        *(at(depth) for depth in depths or range(1, detector.depth + 1)),
        lambda: detector.stage_times(image),
    ]


def measure_latency(
    detector: "Detector",
    image: Image.Image | None = None,
    rounds: int = ROUNDS,
    stop: threading.Event | None = None,
    execute: Any = lambda turn: turn(),
) -> Latency:
    """Time every depth and every stage by turns, on a 640x480 picture where none is given.

    Raises Cancelled where `stop` was set before the end.
    """
    if image is None:
        pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    return summarize(
        detector,
        take_turns([lambda p=p: execute(p) for p in passes(detector, image)], rounds, stop),
    )


def summarize(detector: "Detector", times: Mapping[str, np.ndarray]) -> Latency:
    """The latency estimated from milliseconds [rounds] by name, as `passes` took them by turns."""
    names = [f"depth {depth}" for depth in range(1, detector.depth + 1)]
    stages = stage_names(detector.depth)
    totals, steps = (np.array([times[name] for name in part]) for part in (names, stages))
    costs, noise = fit(totals, steps)
    base, layers, post = costs[:3].sum(), costs[3:-1], costs[-1]
    fitted = base + layers.cumsum() + post
    return Latency(
        device=str(detector.device),
        runtime=detector.runtime().name,
        precision=detector.precision,
        size=detector.size[::-1],
        rounds=totals.shape[1],
        stages_ms=dict(zip(stages, costs.tolist(), strict=True)),
        total_ms=tuple(fitted.tolist()),
        spread_ms=tuple(spread(one) for one in totals),
        within_noise=(*(saved <= 2 * error for saved, error in noise[:-1]), False),
    )


def stage_names(depth: int) -> list[str]:
    """The stages of a pass, in order."""
    layers = [f"decoder layer {number}" for number in range(1, depth + 1)]
    return ["preprocess", "backbone", "encoder", *layers, "postprocess"]


def fit(totals: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Explain the passes of every depth and the stages of a pass by one cost per stage.

    `totals`: [depths, rounds]; `steps`: [3 + depths + 1, rounds], as `stage_names` orders them.
    Gives the costs, none of them negative, and for each depth what it saves and the error of that.
    Least squares, each low quantile weighed by how sure it is; fitted totals thus never fall as
    depth grows, which is isotonic regression with the stages as further evidence.
    """
    depths, rounds = totals.shape
    head, tail = np.ones((depths, 3)), np.ones((depths, 1))
    sums = np.hstack([head, np.tri(depths), tail])
    parts = np.vstack([sums, np.eye(len(steps))])

    def estimates(chosen: Any) -> np.ndarray:
        whole, single = (np.quantile(one[:, chosen], LOW, axis=1) for one in (totals, steps))
        # Timed one by one, stages wait for the device: only their shares count.
        return np.concatenate([whole, single * whole[-1] / single.sum()])

    draws = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    drawn = np.array([estimates(chosen) for chosen in draws])
    centre = estimates(slice(None))
    weights = 1 / (drawn.std(axis=0) + 0.005 * centre + 1e-3)

    def solve(values: np.ndarray) -> np.ndarray:
        return nnls(parts * weights[:, None], values * weights)[0]

    costs = solve(centre)
    saved = sums[-1] - sums
    errors = np.array([saved @ solve(one) for one in drawn]).std(axis=0)
    return costs, list(zip((saved @ costs).tolist(), errors.tolist(), strict=True))
