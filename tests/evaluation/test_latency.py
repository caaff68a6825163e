"""Times hold on a noisy machine."""

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import Cancelled
from rtdetr_demo.evaluation.latency import fit, low, measure_latency, take_turns, timed

COSTS = np.array([14, 4, *[1.1] * 6])
SUMS = np.tri(8)


def noisy(scale: float, seed: int = 0, slower: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rounds of all parts and of the full pass beside each, on a machine that does other things
    `scale` ms at a time; the machine gets slower by a factor from the first part to the last."""
    random = np.random.default_rng(seed)
    speed = np.linspace(1, slower, 8)[:, None]
    taken = (SUMS @ COSTS)[:, None] + random.exponential(scale, (8, 12))
    return taken * speed, (COSTS.sum() + random.exponential(scale, (8, 12))) * speed


def test_contenders_take_turns_after_one_round_to_warm_up():
    calls: list[str] = []
    times = take_turns([timed(name, lambda name=name: calls.append(name)) for name in "ab"], 3)
    assert [sorted(calls[i : i + 2]) for i in range(0, 8, 2)] == [["a", "b"]] * 4
    assert [len(taken) for taken in times.values()] == [3, 3]


def test_a_low_quantile_stands_for_a_cost():
    assert low(np.array([10, 10, 10, 90, 300, 10, 11, 80])) == 10


@pytest.mark.parametrize("scale", [0.1, 5, 30, 100])
def test_more_layers_never_cost_less(scale: float):
    for seed in range(20):
        costs, savings = fit(*noisy(scale, seed))
        totals = (SUMS @ costs)[2:]
        assert (np.diff(totals) >= 0).all()
        assert all(saved >= 0 for saved, _ in savings)


def test_the_fit_finds_the_layers_under_noise_larger_than_they_are():
    for seed in range(5):
        costs, savings = fit(*noisy(1.5, seed))
        assert costs[2:] == pytest.approx(np.full(6, 1.1), abs=0.35)
        saved, error = savings[2]
        assert abs(saved - 3.3) < 1
        assert saved > 2 * error


def test_a_machine_that_gets_slower_meanwhile_does_not_change_the_shares():
    costs, _ = fit(*noisy(0.01, slower=3))
    assert costs / costs.sum() == pytest.approx(COSTS / COSTS.sum(), abs=0.01)


def test_a_saving_that_the_rounds_cannot_tell_is_known_for_that():
    _, savings = fit(*noisy(300))
    saved, error = savings[4]
    assert saved <= 2 * error


def test_a_measurement_adds_up(tiny: Path, noise: Image.Image):
    latency = measure_latency(Detector.load("tiny", tiny), noise, rounds=3)
    assert list(latency.stages_ms)[:4] == ["preprocess", "backbone", "encoder", "decoder layer 1"]
    assert latency.total_ms[-1] == pytest.approx(sum(latency.stages_ms.values()))
    assert list(latency.total_ms) == sorted(latency.total_ms)
    assert len(latency.spread_ms) == len(latency.within_noise) == 6
    assert latency.to_json()["rounds"] == 3


class Ladder:
    """A runtime whose passes sleep: 20 ms for all layers at once, 4 ms and 2 more for each layer
    when they end early."""

    name = "sleeping"

    def __init__(self) -> None:
        self.held = self.most = 0

    def run(self, pixels: torch.Tensor, depth: int, every: bool) -> tuple:
        time.sleep(0.02)
        layers = depth if every else 1
        return torch.zeros(1, layers, 300, 5), torch.zeros(1, layers, 300, 4)

    def prefix(self, end: str | int) -> Callable[[torch.Tensor], object]:
        cost = {"backbone": 2, "encoder": 4}.get(end) or 4 + 2 * int(end)
        self.held += 1
        self.most = max(self.most, self.held)

        def run(pixels: torch.Tensor) -> None:
            time.sleep(cost / 1000)

        weakref.finalize(run, self._dropped)
        return run

    def _dropped(self) -> None:
        self.held -= 1


@pytest.fixture
def ladder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Detector, Ladder]:
    detector, runtime = Detector.load("tiny", tiny), Ladder()
    monkeypatch.setattr(detector, "runtime", lambda *shape: runtime)
    return detector, runtime


@pytest.mark.alone
def test_the_figures_of_a_depth_are_those_of_the_pass_that_ends_there(ladder, noise: Image.Image):
    """Not shares of the full pass, which takes another way."""
    latency = measure_latency(ladder[0], noise, rounds=5)
    network = np.array(list(latency.stages_ms.values()))[1:-1].cumsum()[2:]
    assert network == pytest.approx([6, 8, 10, 12, 14, 16], abs=1.5)
    assert latency.runtime == "sleeping"


def test_one_compiled_pass_is_held_at_a_time(ladder, noise: Image.Image):
    measure_latency(ladder[0], noise, rounds=1)
    assert ladder[1].most <= 2  # the next one is made before the last one is dropped


def test_each_turn_runs_where_the_device_is_and_compiling_does_not(ladder, noise: Image.Image):
    detector, runtime = ladder
    compiled, inside, turns = runtime.prefix, False, 0

    def execute(work: Callable[[], Any]) -> Any:
        nonlocal inside, turns
        inside, turns = True, turns + 1
        try:
            return work()
        finally:
            inside = False

    def prefix(end: str | int) -> Callable[[torch.Tensor], object]:
        assert not inside
        run = compiled(end)

        def checked(pixels: torch.Tensor) -> None:
            assert inside
            run(pixels)

        return checked

    runtime.prefix = prefix
    measure_latency(detector, noise, rounds=1, execute=execute)
    # Two to begin with; two rounds of: eight parts, the full pass beside each, and the two sides.
    assert turns == 2 + 2 * (8 + 8 + 2)


def test_a_measurement_can_be_stopped(tiny: Path, noise: Image.Image):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        measure_latency(Detector.load("tiny", tiny), noise, stop=stop)
