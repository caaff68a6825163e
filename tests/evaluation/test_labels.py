"""Labels in COCO's and YOLO's form, and the AP that follows from them: that of `evaluate`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.errors import BadInput
from rtdetr_demo.evaluation.coco import evaluate
from rtdetr_demo.evaluation.depth_scores import DepthScores
from rtdetr_demo.evaluation.labels import read_labels
from rtdetr_demo.media.images import read_picture
from tests.support.paths import EXAMPLES

PICTURES = ("cat.jpg", "cows.jpg", "dogs.jpg", "sheep.jpg")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Examples with boxes that the bundled checkpoint finds at full depth, some of them shifted."""
    detector = load("bundled", device=torch.device("cpu"))
    folder = tmp_path_factory.mktemp("labelled")
    names = list(detector.class_names)
    images, annotations = [], []
    for number, name in enumerate(PICTURES):
        shutil.copyfile(EXAMPLES / name, folder / name)
        with Image.open(folder / name) as opened:
            image = opened.convert("RGB")
        images.append(
            {"id": number, "file_name": name, "width": image.width, "height": image.height}
        )
        for place, detection in enumerate(detector.detect(image).select(6, 0.4)):
            x, y, width, height = detection.clipped(image.width, image.height)
            by = 0.2 * width * (place % 2)
            box = [x + by, y, min(width, image.width - x - by), height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": detection.class_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    return folder, {"images": images, "annotations": annotations, "categories": categories}


def write_yolo(folder: Path, instances: dict) -> Path:
    folder.mkdir()
    for image in instances["images"]:
        lines = []
        for annotation in instances["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, width, height = annotation["bbox"]
                centre = [(x + width / 2) / image["width"], (y + height / 2) / image["height"]]
                size = [width / image["width"], height / image["height"]]
                numbers = " ".join(f"{value:.9f}" for value in centre + size)
                lines.append(f"{annotation['category_id']} {numbers}\n")
        (folder / image["file_name"]).with_suffix(".txt").write_text("".join(lines))
    names = "".join(
        f"  {category['id']}: {category['name']}\n" for category in instances["categories"]
    )
    (folder / "data.yaml").write_text(f"names:\n{names}")
    return folder


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_ap_equals_that_of_evaluate(labelled: tuple[Path, dict], tmp_path: Path, form: str) -> None:
    folder, instances = labelled
    if form == "yolo":
        path = write_yolo(tmp_path / "labels", instances)
    else:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(instances))
    detector = load("bundled", device=torch.device("cpu"))
    scores = DepthScores(read_labels(path), detector.class_names, detector.depth)
    for name in reversed(PICTURES):
        scores.add(name, detector.detect(read_picture(folder / name)))
    expected = evaluate(detector, instances, folder, timed=False).depths
    assert scores.labelled == len(PICTURES)
    for measured, wanted in zip(scores.averages(), expected, strict=True):
        for name in ("AP", "AP50"):
            assert measured[name] == pytest.approx(getattr(wanted, name), abs=1e-4)
    assert 0.1 < expected[-1].AP < 0.95, "a case in which something is at stake"


def test_pictures_without_labels_do_not_count(labelled: tuple[Path, dict], tmp_path: Path) -> None:
    folder, instances = labelled
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    detector = load("bundled", device=torch.device("cpu"))
    scores = DepthScores(
        read_labels(tmp_path / "instances.json"), detector.class_names, detector.depth
    )
    predictions = detector.detect(read_picture(folder / "cat.jpg"))
    scores.add("another.jpg", predictions)
    with pytest.raises(BadInput, match="None of these pictures has labels"):
        scores.averages()
    scores.add("below/cat.jpg", predictions)
    assert scores.labelled == 1


def test_a_name_that_stands_for_two_images_is_not_guessed(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}/a.jpg", "width": 10, "height": 10} for n in range(2)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    labels = read_labels(path)
    assert labels.entry("a.jpg", 10, 10) is None
    entry = labels.entry("1/a.jpg", 10, 10)
    assert entry is not None
    assert entry["id"] == 1


def test_yolo_names_come_from_classes_txt_too(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.5 1.0\n\n")
    labels = read_labels(tmp_path)
    assert labels.categories == [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]
    entry = labels.entry("a.jpg", 200, 100)
    assert entry is not None
    [annotation] = labels.annotations([entry["id"]])
    assert (annotation["category_id"], annotation["bbox"], annotation["area"]) == (
        1,
        [50, 0, 100, 100],
        10_000,
    )
    assert labels.entry("b.jpg", 200, 100) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dog 0.5 0.5 0.5 0.5", "line 1, is not a class"),
        ("0 0.5 0.5", "line 1, is not a class"),
        ("7 0.5 0.5 0.5 0.5", "class 7, which has no name"),
        ("0 50 50 10 10", "not in shares of the picture"),
        ("0 nan 0.5 0.5 0.5", "not in shares of the picture"),
    ],
)
def test_a_bad_yolo_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "classes.txt").write_text("dog\n")
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(BadInput, match=words):
        read_labels(tmp_path).entry("a.jpg", 100, 100)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (None, "", "no data.yaml or classes.txt"),
        ("data.yaml", "nc: 3", "does not name the classes"),
        ("data.yaml", "names: [", "does not name the classes"),
        ("classes.txt", "\n", "does not name the classes"),
    ],
)
def test_yolo_labels_without_names_are_a_sentence(
    tmp_path: Path, file: str | None, content: str, words: str
) -> None:
    folder = tmp_path / "set" / "labels"
    folder.mkdir(parents=True)
    if file:
        (folder / file).write_text(content)
    with pytest.raises(BadInput, match=words):
        read_labels(folder)


def test_images_without_a_size_are_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    images = [{"id": 1, "file_name": "a.jpg", "width": None, "height": 0}]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    with pytest.raises(BadInput, match="no size in pixels"):
        read_labels(path)
