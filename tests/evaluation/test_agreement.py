"""Agreement, held to the cases that the page's own is held to."""

import json
from pathlib import Path

import pytest

from rtdetr_demo.evaluation.agreement import agreement
from rtdetr_demo.predictions import Detection

CASES = json.loads((Path(__file__).parents[1] / "support" / "agreement_cases.json").read_text())


def detections(rows: list[list]) -> list[Detection]:
    return [Detection(label, 0, 0.9, *box) for label, *box in rows]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["claim"])
def test_agreement(case: dict):
    found = agreement(detections(case["shown"]), detections(case["reference"]))
    assert (found.kept, found.extra) == (case["kept"], case["extra"])
    assert found.mean_iou == pytest.approx(case["mean_iou"])
    assert found.f1 == pytest.approx(case["f1"])
