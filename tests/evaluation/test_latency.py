"""Times hold on a noisy machine."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import Cancelled
from rtdetr_demo.evaluation.latency import fit, low, measure_latency, take_turns, timed

COSTS = np.array([3, 14, 4, *[1.1] * 6, 0.4])
SUMS = np.hstack([np.ones((6, 3)), np.tri(6), np.ones((6, 1))])


def noisy(scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rounds of all depths and stages on a machine that does other things `scale` ms at a time."""
    random = np.random.default_rng(seed)
    totals = (SUMS @ COSTS)[:, None] + random.exponential(scale, (6, 12))
    return totals, COSTS[:, None] * (1 + random.exponential(scale / 25, (10, 12)))


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
        totals = SUMS @ costs
        assert (np.diff(totals) >= 0).all()
        assert all(saved >= 0 for saved, _ in savings)


def test_the_fit_finds_the_layers_under_noise_larger_than_they_are():
    for seed in range(5):
        costs, savings = fit(*noisy(5, seed))
        assert costs[3:9] == pytest.approx(np.full(6, 1.1), abs=0.35)
        saved, error = savings[2]
        assert abs(saved - 3.3) < 1
        assert saved > 2 * error


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


def test_a_measurement_can_be_stopped(tiny: Path, noise: Image.Image):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        measure_latency(Detector.load("tiny", tiny), noise, stop=stop)
