"""What one pass costs, stage by stage and depth by depth.

What is timed is what serves: passes that end after the backbone, after the encoder, and after each
decoder layer, by the runtime that the detector has at present. A stage costs what the pass that
ends with it takes more than the pass before.

Whatever else a machine does makes a pass slower, never faster. So what is compared takes turns
within one run, a low quantile of the rounds stands for the cost, and no stage takes less than
nothing. A runtime that compiles each such pass has one at a time: each takes turns with the full
pass, and is set in proportion to it.
"""

import functools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.optimize import nnls

from ..detector.backends import End, TorchBackend
from ..errors import Cancelled
from ..predictions import Timing

if TYPE_CHECKING:
    from ..detector.detector import Detector

ROUNDS = 8
"""Timed rounds of one measurement."""

LOW = 0.25
"""The quantile of the rounds that stands for a cost."""

ALIKE = 0.2
"""How far the costs of two successive decoder layers are expected to differ, as a share."""

RESAMPLES = 100
"""Draws of the rounds, with replacement, from which the error of an estimate is taken."""

Contender = Callable[[], Mapping[str, float]]
"""Does its work once and gives milliseconds by name."""

Execute = Callable[[Callable[[], Any]], Any]
"""Runs a piece of work for the device, such as in the thread that owns it, and gives its result."""


def execute_here(work: Callable[[], Any]) -> Any:
    """Run a piece of work in the thread that wants it."""
    return work()


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
    execute: Execute = execute_here,
) -> dict[str, np.ndarray]:
    """Milliseconds by name, [rounds], after one round to warm up.

    The order changes from round to round, so that nobody always follows the same one. `execute`
    runs each turn by itself. Raises Cancelled where `stop` was set.
    """
    times: dict[str, list[float]] = {}
    turns, order, done = list(contenders), random.Random(0), 0
    for number in range(rounds + 1):
        order.shuffle(turns)
        for turn in turns:
            if stop and stop.is_set():
                raise Cancelled("The measurement was cancelled.")
            for name, milliseconds in execute(turn).items():
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


@dataclass(frozen=True)
class Turns:
    """Milliseconds [rounds] of one contender, and those of the full pass that took turns with
    it."""

    taken: np.ndarray
    whole: np.ndarray


def time_parts(
    detector: "Detector",
    image: Image.Image,
    rounds: int = ROUNDS,
    stop: threading.Event | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
    execute: Execute = execute_here,
    beside: Callable[[int], list[Contender]] | None = None,
) -> dict[str, Turns]:
    """Time a picture's way to detections by parts.

    Args:
        detector: its present runtime at its own size and queries is timed.
        image: an RGB picture.
        rounds: timed turns of each contender.
        stop: set to give up.
        on_progress: called after each turn with the share of all turns that are done.
        execute: runs each turn; what is compiled for a turn is compiled outside of it.
        beside: further contenders that take turns with the pass that ends at a depth.

    Returns:
        Turns by name: "backbone", "encoder", "depth 1" and so on, which are passes of the network
        that end there; "preprocess" and "postprocess"; and what `beside` names.

    Raises:
        Cancelled: `stop` was set before the end.
    """
    depth = detector.depth
    pixels = execute(lambda: detector.prepare([image]))
    output = execute(lambda: detector.run(pixels, depth, False))
    untimed = Timing(0.0, 0.0, 0.0)

    def rank() -> None:
        detector.predictions(output[0], output[1], [image.size], untimed, depth, False)

    sides = [
        timed("preprocess", lambda: detector.prepare([image])),
        timed("postprocess", rank),
    ]
    ends: list[End] = ["backbone", "encoder", *range(1, depth + 1)]
    together = isinstance(detector.runtime(), TorchBackend) and beside is None
    groups = [ends] if together else [[end] for end in ends]
    results: dict[str, Turns] = {}
    for number, group in enumerate(groups):
        if stop and stop.is_set():
            raise Cancelled("The measurement was cancelled.")
        contenders = [timed("whole", lambda: detector.run(pixels, depth, True))]
        for end in group:
            run = detector.prefix(end)
            contenders.append(timed(part_name(end), functools.partial(run, pixels)))
            if beside and isinstance(end, int):
                contenders += beside(end)
        if group is groups[-1]:
            contenders += sides
        turns = len(contenders) * (rounds + 1)

        def tell(done: int, number: int = number, turns: int = turns) -> None:
            on_progress((number + done / turns) / len(groups))

        times = take_turns(contenders, rounds, stop, tell, execute)
        whole = times.pop("whole")
        results |= {name: Turns(taken, whole) for name, taken in times.items()}
    return results


def part_name(end: End) -> str:
    """What `time_parts` calls the pass that ends there."""
    return f"depth {end}" if isinstance(end, int) else end


def scaled(turns: Mapping[str, Turns]) -> dict[str, np.ndarray]:
    """Milliseconds [rounds] by name, as if all had taken turns at the same time: what the machine
    did meanwhile made the full pass slower, too."""
    base = low(np.concatenate([timing.whole for timing in turns.values()]))
    return {name: one.taken * (base / low(one.whole)) for name, one in turns.items()}


def measure_latency(
    detector: "Detector",
    image: Image.Image | None = None,
    rounds: int = ROUNDS,
    stop: threading.Event | None = None,
    execute: Execute = execute_here,
) -> Latency:
    """Time every depth and every stage by turns, on a 640x480 picture where none is given.

    Args:
        detector: as in `time_parts`.
        image: as in `time_parts`.
        rounds: as in `time_parts`.
        stop: as in `time_parts`.
        execute: as in `time_parts`.

    Raises:
        Cancelled: `stop` was set before the end.
    """
    if image is None:
        pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    runtime = detector.runtime().name
    return summarize(detector, time_parts(detector, image, rounds, stop, execute=execute), runtime)


def summarize(detector: "Detector", turns: Mapping[str, Turns], runtime: str) -> Latency:
    """The latency that follows from what `time_parts` gave for a runtime."""
    depths = [part_name(k) for k in range(1, detector.depth + 1)]
    parts = [turns[name] for name in ("backbone", "encoder", *depths)]
    costs, noise = fit(
        np.array([part.taken for part in parts]), np.array([part.whole for part in parts])
    )
    times = scaled(turns)
    before, after = low(times["preprocess"]), low(times["postprocess"])
    totals = before + costs.cumsum()[2:] + after
    names = stage_names(detector.depth)
    return Latency(
        device=str(detector.device),
        runtime=runtime,
        precision=detector.precision,
        size=detector.size[::-1],
        rounds=len(parts[0].taken),
        stages_ms=dict(zip(names, [before, *costs.tolist(), after], strict=True)),
        total_ms=tuple(totals.tolist()),
        spread_ms=tuple(spread(times[name]) for name in depths),
        within_noise=(*(saved <= 2 * error for saved, error in noise[:-1]), False),
    )


def stage_names(depth: int) -> list[str]:
    """The stages of a pass, in order."""
    layers = [f"decoder layer {number}" for number in range(1, depth + 1)]
    return ["preprocess", "backbone", "encoder", *layers, "postprocess"]


def fit(taken: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Explain passes that end after each stage by one cost per stage.

    `taken`: [2 + depths, rounds], of the passes that end after the backbone, the encoder, and each
    layer; `whole`: the same of the full pass that took turns with each.
    Gives the costs of the stages, none of them negative, and for each depth what it saves and the
    error of that. Least squares, each low quantile weighed by how sure it is; the passes that are
    fitted thus never take less as they get longer, as in isotonic regression. All decoder layers
    do the same work, so that they cost about the same (see `ALIKE`) is further evidence.
    """
    stages, rounds = taken.shape
    sums = np.tri(stages)
    base = low(whole)

    def estimates(chosen: Any) -> np.ndarray:
        part, full = (np.quantile(times[:, chosen], LOW, axis=1) for times in (taken, whole))
        return part / full * base

    draws = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    drawn = np.array([estimates(chosen) for chosen in draws])
    centre = estimates(slice(None))
    weights = 1 / (drawn.std(axis=0) + 0.005 * centre + 1e-3)

    layer = max(centre[-1] - centre[1], 0) / (stages - 2)
    differences = np.diff(np.eye(stages)[2:], axis=0) / (ALIKE * layer + 1e-3)

    def solve(values: np.ndarray) -> np.ndarray:
        equations = np.vstack([sums * weights[:, None], differences])
        return nnls(equations, np.concatenate([values * weights, np.zeros(len(differences))]))[0]

    costs = solve(centre)
    saved = (sums[-1] - sums)[2:]
    errors = np.array([saved @ solve(sample) for sample in drawn]).std(axis=0)
    return costs, list(zip((saved @ costs).tolist(), errors.tolist(), strict=True))
