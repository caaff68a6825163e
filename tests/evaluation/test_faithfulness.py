"""Blotting out what a detection looked at, against the same area elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.evaluation.faithfulness import BLOTTED, CELLS, measure_faithfulness, weight_map
from rtdetr_demo.evaluation.faithfulness import _masks as masks
from rtdetr_demo.media.images import read_picture
from rtdetr_demo.model.detector import Detector
from rtdetr_demo.model.inspection import inspect
from tests.support.paths import EXAMPLES


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return Detector.load("bundled", BUNDLED_FOLDER)


def test_every_way_blots_out_the_same_area_where_it_says(bundled):
    found = inspect(bundled, read_picture(Path(EXAMPLES / "sheep.jpg")))
    query = found.best(1)[0]
    ways = masks(found, query, np.random.default_rng(0))
    assert ways
    assert {int(mask.sum()) for mask in ways.values()} == {round(BLOTTED * CELLS**2)}
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
