"""Thresholds and duplicates, counted by hand."""

import pytest

from rtdetr_demo.evaluation.operating_point import duplicate_share, operating_point

INSTANCES = {
    "annotations": [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [20, 0, 10, 10], "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [100, 100, 100, 100], "iscrowd": 1},
    ]
}


def result(box: list[float], score: float, image: int = 1, category: int = 1) -> dict:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


FOUND = [
    result([0, 0, 10, 10], 0.9),
    result([0, 0, 10, 9], 0.8),  # repeats the first
    result([20, 0, 10, 10], 0.6),
    result([110, 110, 20, 20], 0.95),  # in the crowd: neither right nor wrong
    result([50, 50, 10, 10], 0.3),  # finds nothing
]


def test_the_threshold_is_where_f1_is_best():
    point = operating_point(INSTANCES, FOUND, [1])
    assert 0.3 < point.threshold < 0.6
    assert (point.precision, point.recall) == (pytest.approx(2 / 3), 1.0)
    assert point.f1 == pytest.approx(2 * 2 / (3 + 2))


def test_a_given_threshold_is_judged_as_it_is():
    point = operating_point(INSTANCES, FOUND, [1], threshold=0.85)
    assert (point.precision, point.recall) == (1.0, 0.5)
    assert point.duplicates == 0.0


def test_a_duplicate_overlaps_a_better_one_of_its_class_in_its_picture():
    assert duplicate_share(FOUND, 0.5) == pytest.approx(1 / 4)
    others = [result([0, 0, 10, 10], 0.9), result([0, 0, 10, 10], 0.8, category=2)]
    assert duplicate_share([*others, result([0, 0, 10, 10], 0.7, image=2)], 0.5) == 0.0


def test_nothing_found_is_no_error():
    point = operating_point(INSTANCES, [], [1])
    assert (point.precision, point.recall, point.f1, point.duplicates) == (0, 0, 0, 0)
