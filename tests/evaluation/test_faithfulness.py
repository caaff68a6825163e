"""Blotting out what a detection looked at, against the same area elsewhere."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.inspection import inspect
from rtdetr_demo.evaluation.faithfulness import (
    CELLS,
    FILE,
    OCCLUDED_SHARE,
    Faithfulness,
    measure_faithfulness,
    shipped,
    weight_map,
    weights_digest,
)
from rtdetr_demo.evaluation.faithfulness import _masks as masks
from rtdetr_demo.media.images import read_picture
from tests.support.paths import EXAMPLES


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return Detector.load("bundled", BUNDLED_FOLDER)


def test_every_way_blots_out_the_same_area_where_it_says(bundled):
    found = inspect(bundled, read_picture(Path(EXAMPLES / "sheep.jpg")))
    query = found.best(1)[0]
    ways = masks(found, query, np.random.default_rng(0))
    assert ways
    assert {int(mask.sum()) for mask in ways.values()} == {round(OCCLUDED_SHARE * CELLS**2)}
    half_cells = 2 * CELLS / np.tile([found.width, found.height], 2)
    x0, y0, x1, y1 = found.boxes[-1, query] * half_cells
    for row, column in np.argwhere(ways["inside"]):
        assert x0 < 2 * column + 1 < x1
        assert y0 < 2 * row + 1 < y1
    assert not (ways["inside"] & ways["outside"]).any()
    mass = weight_map(found, query)
    assert mass[ways["weight"]].min() >= mass[~ways["weight"]].max() - 1e-6


def test_the_report_counts_what_it_measured(bundled):
    report = measure_faithfulness(bundled, [EXAMPLES / "sheep.jpg", EXAMPLES / "cat.jpg"], 0.4)
    assert 1 <= report.detections <= 10
    assert 1 <= report.pictures <= 2
    assert all(-1 <= fall <= 1 for fall in report.fall.values())
    assert "most sampling weight" in str(report)


REPORT = Faithfulness(
    detections=7,
    pictures=3,
    score=0.8,
    fall={"weight": 0.3, "inside": 0.2, "outside": 0.1},
    wins={"inside": 0.7, "outside": 0.9},
    interval={"inside": (0.01, 0.2), "outside": (0.1, 0.3)},
)


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [(0.01, 0.1, "do depend on"), (-0.01, 0.1, "which object"), (-0.01, -0.1, "with caution")],
)
def test_the_sentence_tells_what_was_found_and_what_to_think_of_it(inside, outside, words):
    report = replace(REPORT, interval={"inside": (inside, 0.2), "outside": (outside, 0.3)})
    assert "lowers the score of 0.80 by 0.30" in report.sentence()
    assert words in report.sentence()


def test_figures_are_told_only_of_the_weights_that_they_were_measured_on(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert shipped(tmp_path) is None
    figures = {"weights": weights_digest(tmp_path), **REPORT.to_json()}
    (tmp_path / FILE).write_text(json.dumps(figures))
    found = shipped(tmp_path)
    assert found
    assert found.sentence() == REPORT.sentence()
    (tmp_path / "model.safetensors").write_bytes(b"others")
    assert shipped(tmp_path) is None
