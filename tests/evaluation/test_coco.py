"""`evaluate` is COCO's metric, by name of class, for every depth from one pass."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.cli import evaluate as command
from rtdetr_demo.errors import BadInput
from rtdetr_demo.evaluation import coco as module
from rtdetr_demo.evaluation.coco import METRICS, evaluate, match_categories, plot, score
from rtdetr_demo.evaluation.instances import read_instances
from rtdetr_demo.predictions import Predictions, Timing

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}, {"id": 62, "name": "couch"}]


def random_case(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """A COCO file of 12 pictures with some crowds, and results near and far from its boxes."""
    images = [{"id": i, "width": 400, "height": 300, "file_name": f"{i}.png"} for i in range(12)]
    annotations, results = [], []
    for number in range(60):
        image, category = int(rng.integers(12)), int(rng.choice([3, 18, 62]))
        width, height = rng.uniform(8, 200, 2)
        box = [rng.uniform(0, 400 - width), rng.uniform(0, 300 - height), width, height]
        box = [float(value) for value in box]
        crowd = int(rng.random() < 0.1)
        annotations.append(
            {
                "id": number + 1,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
            }
        )
        for _ in range(2):
            moved = (np.array(box) + rng.normal(0, 0.06, 4) * (width + height) / 2).tolist()
            moved[2:] = [max(value, 1.0) for value in moved[2:]]
            results.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": moved,
                    "score": float(rng.random()),
                }
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}, results


def test_the_metric_equals_pycocotools():
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is the reference here")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    instances, results = random_case(np.random.default_rng(1))
    truth = coco.COCO()
    truth.dataset = copy.deepcopy(instances)
    truth.createIndex()
    reference = cocoeval.COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
    reference.params.catIds = [3, 62]
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    found, _ = score(instances, results, [3, 62])
    assert [found[name] for name in METRICS] == pytest.approx(reference.stats[:6], abs=1e-4)
    assert 0.1 < found["AP"] < 0.9, "a case in which something is at stake"


def test_no_result_at_all_scores_zero():
    instances, _ = random_case(np.random.default_rng(1))
    assert score(instances, [], [3])[0]["AP"] == 0


def test_a_size_without_objects_has_no_score():
    instances, results = random_case(np.random.default_rng(1))
    large = [a for a in instances["annotations"] if a["area"] > 96**2]
    assert score({**instances, "annotations": large}, results, [3, 18, 62])[0]["APs"] is None


def test_categories_pair_by_name_and_not_by_number():
    ids, absent = match_categories(["dog", "car"], CATEGORIES)
    assert ids == {0: 18, 1: 3}
    assert absent == ("couch",)


def test_pascal_spellings_name_the_same_classes():
    names = ["aeroplane", "motorbike", "diningtable", "pottedplant", "sofa", "tvmonitor"]
    coco = ["airplane", "motorcycle", "dining table", "potted plant", "couch", "tv"]
    ids, absent = match_categories(
        names, [{"id": 10 + i, "name": name} for i, name in enumerate(coco)]
    )
    assert ids == {i: 10 + i for i in range(6)}
    assert absent == ()


def test_nothing_in_common_is_an_error_in_words():
    with pytest.raises(BadInput, match="no class in common"):
        match_categories(["zebra"], CATEGORIES)


class KnowingDetector:
    """Says the truth at layer 2 and shifts every box by half at layer 1; counts its passes."""

    checkpoint, device, precision, depth = "knowing", "cpu", "float32", 2
    class_names = ("zebra", "dog", "car")
    size = (64, 64)

    def __init__(self, truth: dict[tuple[int, int, int], tuple[int, list[float]]]):
        self.truth = truth
        self.passes = 0

    def check_depth(self, layers: int | None) -> int:
        return layers or self.depth

    def detect_batch(self, images: list[Image.Image], layers: int) -> list[Predictions]:
        self.passes += len(images)
        return [self.answer(image, layers) for image in images]

    def answer(self, image: Image.Image, layers: int) -> Predictions:
        label, box = self.truth[image.getpixel((0, 0))]
        shifted = [box[0] + (box[2] - box[0]) / 2, box[1], box[2] + (box[2] - box[0]) / 2, box[3]]
        return Predictions(
            checkpoint="knowing", class_names=self.class_names,
            width=image.width, height=image.height,
            scores=np.full((layers, 1), 0.9, np.float32),
            labels=np.full((layers, 1), label),
            queries=np.zeros((layers, 1), np.int64),
            boxes=np.array([[shifted], [box]][-layers:], np.float32),
            timing=Timing(1, 1, 1),
        )  # fmt: skip


@pytest.fixture
def small_set(tmp_path: Path) -> tuple[dict, Path, KnowingDetector]:
    """Three pictures at half of the size that their COCO file states, each with one object."""
    images, annotations, truth = [], [], {}
    for i, (category, label) in enumerate([(3, 2), (18, 1), (62, 0)]):
        color = (40 * i, 10, 10)
        Image.new("RGB", (100, 80), color).save(tmp_path / f"{i}.png")
        images.append({"id": i, "width": 200, "height": 160, "file_name": f"{i}.png"})
        annotations.append(
            {
                "id": i + 1,
                "image_id": i,
                "category_id": category,
                "bbox": [20, 20, 80, 60],
                "area": 4800,
                "iscrowd": 0,
            }
        )
        truth[color] = (label, [10.0, 10.0, 50.0, 40.0])
    instances = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    return instances, tmp_path, KnowingDetector(truth)


def test_every_depth_is_scored_from_one_pass(small_set):
    instances, folder, detector = small_set
    report = evaluate(detector, instances, folder, timed=False)
    assert detector.passes == 3
    assert [(depth.layers, depth.AP) for depth in report.depths] == [(1, 0.0), (2, 1.0)]


def test_classes_that_the_model_lacks_are_named_and_do_not_count(small_set):
    instances, folder, detector = small_set
    report = evaluate(detector, instances, folder, timed=False)
    assert report.absent == ("couch",)
    assert report.depths[-1].AP == 1, "the couch that it cannot know is no miss"
    assert "couch" in str(report)


def test_one_depth_can_be_asked_for_alone(small_set):
    instances, folder, detector = small_set
    report = evaluate(detector, instances, folder, layers=2, timed=False)
    assert [depth.layers for depth in report.depths] == [2]


def test_a_missing_picture_is_named(small_set):
    instances, folder, detector = small_set
    (folder / "1.png").unlink()
    with pytest.raises(BadInput, match=r"1\.png"):
        evaluate(detector, instances, folder, timed=False)


def test_the_command_prints_json_and_draws_the_figure(
    small_set, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    import argparse

    pytest.importorskip("matplotlib", reason="the figure needs requirements-train.txt")
    instances, folder, detector = small_set
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    monkeypatch.setattr(command, "load", lambda checkpoint: detector)
    monkeypatch.setattr(
        module, "measure_latency", lambda detector: SimpleNamespace(total_ms=(3.0, 5.0))
    )
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    figure = tmp_path / "figure.png"
    words = [str(tmp_path / "instances.json"), str(folder), "--json", "--plot", str(figure)]
    assert command.run(parser.parse_args(words)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [depth["latency_ms"] for depth in answer["depths"]] == [3.0, 5.0]
    assert Image.open(figure).size[0] > 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "no JSON file"),
        ({"images": []}, "needs images, annotations and categories"),
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, "lacks file_name, height"),
        ({"images": [], "annotations": [7], "categories": []}, "its annotations lacks area"),
    ],
)
def test_a_file_that_is_no_coco_file_is_an_error_in_words(tmp_path: Path, content, words: str):
    path = tmp_path / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BadInput, match=words):
        read_instances(path)


def test_the_figure_starts_at_zero(small_set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A figure that cuts its axis would exaggerate what depth buys."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    instances, folder, detector = small_set
    monkeypatch.setattr(
        module, "measure_latency", lambda detector: SimpleNamespace(total_ms=(3.0, 5.0))
    )
    report = evaluate(detector, instances, folder)
    limits = []
    monkeypatch.setattr(pyplot, "close", lambda figure: limits.append(figure.axes[0].get_ylim()[0]))
    plot(report, tmp_path / "figure.png")
    assert limits == [0]
