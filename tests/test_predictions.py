"""Predictions select, and every export says the same as the selection."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import Expired
from rtdetr_demo.media.colors import class_color, text_color
from rtdetr_demo.media.exporters import FORMS, annotate, file_name, render
from rtdetr_demo.predictions import Detection, Predictions, Selection, Timing
from rtdetr_demo.serving.result_store import ResultStore
from rtdetr_demo.serving.scratch import Scratch
from tests.support.models import NAMES


@pytest.fixture
def predictions() -> Predictions:
    """Two layers, three candidates; the first box of layer 2 reaches out of the picture."""
    return Predictions(
        checkpoint="c",
        class_names=("person", "car"),
        width=200,
        height=100,
        scores=np.array([[0.6, 0.3, 0.1], [0.9, 0.5, 0.2]], dtype=np.float32),
        labels=np.array([[0, 1, 0], [1, 0, 0]]),
        queries=np.array([[0, 1, 2], [0, 1, 2]]),
        boxes=np.array(
            [
                [[10, 10, 50, 50], [60, 10, 90, 40], [0, 0, 9, 9]],
                [[-10.5, 20, 90.9, 120], [50, 50, 100, 100], [0, 0, 9, 9]],
            ],
            dtype=np.float32,
        ),
        timing=Timing(1, 2, 3),
    )


def test_a_selection_keeps_what_scores_above_the_threshold_best_first(predictions):
    assert [one.score for one in predictions.select(2, 0.1)] == pytest.approx([0.9, 0.5, 0.2])
    assert predictions.select(2, 0.5) == predictions.select(2, 0.51)  # above, not at
    assert predictions.select(1, 0.95) == []


def test_a_selection_keeps_the_classes_asked_for(predictions):
    assert [one.label for one in predictions.select(2, 0.1, ["person"])] == ["person", "person"]
    assert predictions.select(2, 0.1, []) == []


def test_the_common_form_is_that_of_the_pipeline(predictions):
    answer = predictions.to_json(2, 0.4)
    assert answer["image"] == {"width": 200, "height": 100}
    assert answer["decoder_layers"] == 2
    assert answer["detections"][0]["box"] == {"xmin": -10, "ymin": 20, "xmax": 90, "ymax": 120}
    assert answer["timing_ms"] == {
        "preprocess": 1, "model": 2, "postprocess": 3, "total": 6,
    }  # fmt: skip
    json.dumps(answer)


def test_what_the_browser_gets_is_every_candidate_of_every_layer(tiny: Path, noise):
    predictions = Detector.load("tiny", tiny).detect(noise)
    sent = predictions.for_browser()
    assert [len(layer["scores"]) for layer in sent["layers"]] == [300] * 6
    assert [len(layer["boxes"]) for layer in sent["layers"]] == [1200] * 6
    for layer, scores in zip(sent["layers"], predictions.scores, strict=True):
        assert layer["scores"] == sorted(layer["scores"], reverse=True)
        np.testing.assert_allclose(layer["scores"], scores, atol=1e-4)
    assert len(json.dumps(sent)) < 150_000


def exported(form: str, predictions: Predictions, threshold: float = 0.4) -> bytes:
    paper = Image.new("RGB", (predictions.width, predictions.height), "white")
    return render(form, predictions, Selection(2, threshold), lambda: paper)


def test_csv_holds_the_boxes_clipped_to_the_picture(predictions):
    rows = list(csv.DictReader(io.StringIO(exported("csv", predictions).decode())))
    assert [row["label"] for row in rows] == ["car", "person"]
    first = {key: float(value) for key, value in rows[0].items() if key != "label"}
    assert first == pytest.approx(
        {"score": 0.9, "x": 0, "y": 20, "width": 90.9, "height": 80, "area_share": 0.3636}
    )


def test_coco_json_is_a_whole_coco_file(predictions):
    coco = json.loads(exported("coco", predictions))
    assert coco["categories"] == [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    assert coco["images"][0]["width"] == 200
    assert coco["annotations"][0]["category_id"] == 3
    assert coco["annotations"][0]["bbox"] == pytest.approx([0, 20, 90.9, 80], abs=0.01)
    assert coco["annotations"][0]["image_id"] == coco["images"][0]["id"]


def test_coco_json_names_the_pictures_file(predictions):
    content = render("coco", predictions, Selection(2, 0.4), lambda: None, "holiday.jpg")
    assert json.loads(content)["images"][0]["file_name"] == "holiday.jpg"


@pytest.mark.parametrize(
    ("form", "picture", "name"),
    [
        ("yolo", "a.b.jpg", "a.b.txt"), ("coco", "x/dogs.jpg", "dogs.coco.json"),
        ("png", "dogs.jpg", "dogs-annotated.png"), ("csv", "C:\\p\\d.png", "d.csv"),
        ("json", None, "detections.json"),
    ],
)  # fmt: skip
def test_files_are_named_after_the_picture(form, picture, name):
    assert file_name(form, picture) == name


def test_yolo_lines_hold_centre_and_size_as_shares(predictions):
    lines = exported("yolo", predictions).decode().splitlines()
    label, *box = lines[1].split()
    assert label == "0"
    assert [float(v) for v in box] == pytest.approx([0.375, 0.75, 0.25, 0.5])
    assert all(0 <= float(v) <= 1 for line in lines for v in line.split()[1:])


def test_json_is_the_common_form(predictions):
    assert json.loads(exported("json", predictions)) == predictions.to_json(2, 0.4)


def test_the_annotated_picture_keeps_its_size_and_shows_each_box_in_its_colour(predictions):
    picture = Image.open(io.BytesIO(exported("png", predictions)))
    assert picture.size == (200, 100)
    red, green, blue = (int(class_color("person")[i : i + 2], 16) for i in (1, 3, 5))
    assert picture.getpixel((100, 90)) == (red, green, blue)


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_selection_exports_too(predictions, form):
    assert exported(form, predictions, threshold=0.99) or form == "yolo"


def test_labels_of_boxes_at_the_edges_stay_inside_the_picture():
    paper = Image.new("RGB", (300, 200), "white")
    edge = [Detection("person", 0, 0.9, *box) for box in [(-5, -5, 90, 60), (250, -9, 310, 80)]]
    drawn = np.asarray(annotate(paper, edge))
    color = [int(class_color("person")[i : i + 2], 16) for i in (1, 3, 5)]
    tagged = (drawn == color).all(-1)
    assert tagged[2:12, 5:40].mean() > 0.4  # the tag of the first
    assert tagged[2:12, 240:298].mean() > 0.4  # the tag of the second


def test_a_class_has_one_colour_and_text_on_it_is_readable():
    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in [*NAMES, "bus", "train", "potted plant", "toothbrush", ""]:
        color = class_color(name)
        assert color == class_color(name)
        light, dark = sorted((luminance(color), luminance(text_color(color))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG AA


def test_results_are_kept_up_to_their_number_and_then_deleted(predictions, tmp_path):
    results = ResultStore(Scratch(tmp_path), capacity=2)
    kept = [results.keep(bytes([i]), predictions, f"visitor {i}") for i in range(3)]
    with pytest.raises(Expired, match="Open the picture again"):
        results.get(kept[0].id)
    assert not kept[0].folder.exists()
    assert results.get(kept[2].id).original.read_bytes() == b"\2"
    assert len({result.id for result in kept}) == 3
