"""The detector says what transformers says, at every depth."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    pipeline,
)

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import BadInput, CheckpointError
from rtdetr_demo.predictions import Predictions
from tests.support.models import save, small
from tests.support.paths import EXAMPLES, REPO

CPU = torch.device("cpu")


@pytest.fixture(
    scope="module", params=["bundled", pytest.param("random_r50", marks=pytest.mark.slow)]
)
def detector(request: pytest.FixtureRequest) -> Detector:
    folder = BUNDLED_FOLDER if request.param == "bundled" else request.getfixturevalue("random_r50")
    return Detector.load(str(folder), folder, CPU)


@pytest.fixture(scope="module")
def full(detector: Detector, photo: Image.Image):
    return detector.detect(photo)


def test_cutting_the_decoder_after_layer_k_gives_layer_k_of_the_full_pass(detector, photo, full):
    assert full.layers == detector.depth == 6
    for depth in range(1, detector.depth + 1):
        cut = detector.detect(photo, depth)
        assert cut.layers == depth
        np.testing.assert_allclose(cut.scores[-1], full.scores[depth - 1], atol=1e-5)
        np.testing.assert_allclose(cut.boxes[-1], full.boxes[depth - 1], atol=0.05)
        assert (cut.labels[-1] == full.labels[depth - 1]).mean() > 0.99  # ties may swap


def test_layers_differ_so_that_the_slider_has_something_to_show(full):
    for depth in range(1, full.layers):
        assert np.abs(full.scores[depth - 1] - full.scores[-1]).max() > 1e-4  # rounding: 1e-5


@pytest.fixture(scope="module")
def reference(detector: Detector):
    """transformers' own pipeline on the same checkpoint."""
    return pipeline(
        "object-detection",
        model=AutoModelForObjectDetection.from_pretrained(detector.checkpoint),
        image_processor=RTDetrImageProcessorPil.from_pretrained(detector.checkpoint),
    )


@pytest.mark.parametrize(("picture", "threshold"), [("street.jpg", 0.1), ("dogs.jpg", 0.3)])
def test_detections_equal_the_transformers_pipeline(detector, reference, picture, threshold):
    image = Image.open(EXAMPLES / picture).convert("RGB")
    expected = reference(image, threshold=threshold)
    predictions = detector.detect(image)
    ours = predictions.to_json(predictions.layers, threshold)["detections"]
    assert len(ours) == len(expected) > 0
    scores = [one["score"] for one in ours]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([one["score"] for one in expected], abs=1e-3)
    for theirs in expected:
        # Whole pixels, cut: two sides of a number may differ by one.
        ours.remove(next(mine for mine in ours if is_twin(mine, theirs, pixels=1)))

    # Before the cut to whole pixels: half a pixel.
    inputs = reference.image_processor(image, return_tensors="pt")
    with torch.inference_mode():
        output = reference.model(**inputs)
    [precise] = reference.image_processor.post_process_object_detection(
        output, threshold, [(image.height, image.width)]
    )
    found = predictions.select(predictions.layers, threshold)
    mine = np.array([[one.class_id, *one[3:], one.score] for one in found])
    for label, box, score in zip(*(precise[k] for k in ("labels", "boxes", "scores")), strict=True):
        same = (mine[:, 0] == label.item()) & (abs(mine[:, 5] - score.item()) < 1e-3)
        assert (abs(mine[same, 1:5] - box.numpy()).max(1) < 0.5).any()


def is_twin(mine: dict, theirs: dict, pixels: int) -> bool:
    """The same detection. By place in the list it cannot be told: nearly equal scores may swap."""
    return (
        mine["label"] == theirs["label"]
        and abs(mine["score"] - theirs["score"]) < 1e-3
        and all(abs(mine["box"][side] - theirs["box"][side]) <= pixels for side in mine["box"])
    )


@pytest.mark.slow
def test_the_comparison_with_the_pipeline_is_not_empty(random_r50, photo):
    predictions = Detector.load("r50", random_r50, CPU).detect(photo)
    assert len(predictions.select(6, 0.3)) > 10


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_truncation_runs_only_k_layers(tiny: Path, noise, depth):
    detector = Detector.load(str(tiny), tiny, CPU)
    runs = [0] * 6
    for number, layer in enumerate(detector.runtime().stages.layers):
        layer.register_forward_hook(
            lambda *_, number=number: runs.__setitem__(number, runs[number] + 1)
        )
    detector.detect(noise, depth)
    assert runs == [1] * depth + [0] * (6 - depth)


def test_a_batch_gives_each_picture_what_it_gets_alone(tiny: Path, noise, photo):
    detector = Detector.load(str(tiny), tiny, CPU)
    for together, alone in zip(
        detector.detect_batch([noise, photo], 4),
        [detector.detect(noise, 4), detector.detect(photo, 4)],
        strict=True,
    ):
        assert (together.width, together.height) == (alone.width, alone.height)
        for ours, theirs in zip(in_order(together), in_order(alone), strict=True):
            np.testing.assert_allclose(ours[:, 0], theirs[:, 0], atol=1e-5)
            np.testing.assert_allclose(ours[:, 1:], theirs[:, 1:], atol=0.05)


def in_order(predictions: Predictions) -> list[np.ndarray]:
    """Score and box of each query at every layer, sorted by place: scores may tie."""
    return [
        np.c_[scores, boxes][np.lexsort(boxes.round().T)]
        for scores, boxes in zip(predictions.scores, predictions.boxes, strict=True)
    ]


def test_the_checkpoint_decides_whether_to_normalize(tiny: Path, tmp_path, noise):
    plain = Detector.load(str(tiny), tiny, CPU)
    changed = tmp_path / "normalizing"
    AutoModelForObjectDetection.from_pretrained(tiny).save_pretrained(changed)
    RTDetrImageProcessorPil(do_normalize=True, size={"height": 160, "width": 160}).save_pretrained(
        changed
    )
    normalizing = Detector.load("normalizing", changed, CPU)
    assert np.abs(plain.detect(noise).scores - normalizing.detect(noise).scores).max() > 1e-4


@pytest.mark.parametrize("depth", [0, 7, -1, 2.0, "3", True])
def test_a_depth_that_the_checkpoint_has_not_is_refused(tiny: Path, noise, depth):
    detector = Detector.load(str(tiny), tiny, CPU)
    with pytest.raises(BadInput, match="from 1 to 6"):
        detector.detect(noise, depth)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{}", "could not be loaded"),
        ("not JSON", "could not be loaded"),
        ('{"model_type": "detr"}', "is a detr model, not an RT-DETR"),
        ('{"model_type": "rt_detr"}', "could not be loaded"),
    ],
)
def test_a_folder_that_is_no_rtdetr_is_refused(tmp_path, config, words):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match=words) as refusal:
        Detector.load("broken", tmp_path, CPU)
    assert str(REPO) not in str(refusal.value)


def test_missing_weights_are_refused_not_filled_with_random_ones(tiny: Path, tmp_path):
    for file in tiny.iterdir():
        shutil.copy(file, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    part = {name: value for name, value in weights.items() if "decoder.layers.3" not in name}
    save_file(part, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="incomplete"):
        Detector.load("partial", tmp_path, CPU)


def test_rtdetr_v2_is_cut_and_read_just_so(tmp_path, noise):
    torch.manual_seed(0)
    model = RTDetrV2ForObjectDetection(RTDetrV2Config(**small(decoder_layers=3)))
    folder = save(model, tmp_path, 160)
    detector = Detector.load("v2", folder, CPU)
    full, cut = detector.detect(noise), detector.detect(noise, 2)
    assert (full.layers, cut.layers) == (3, 2)
    np.testing.assert_allclose(cut.scores[-1], full.scores[1], atol=1e-5)
    np.testing.assert_allclose(cut.boxes[-1], full.boxes[1], atol=0.05)


def test_shapes_that_visitors_ask_for_are_kept_for_the_last_few_only(tiny: Path, noise):
    detector = Detector.load("tiny", tiny)
    for queries in range(20, 60):
        detector.detect(noise, 1, queries=queries)
    assert len(detector._plain) <= 4
    for size in range(128, 641, 32):
        detector.detect(noise, 1, size=size)
    assert len(detector.torch_backend().stages.encode._constants) <= 4
