"""Training learns, can be interrupted, and ends in a folder that loads."""

import argparse
import csv
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import RTDetrForObjectDetection

from rtdetr_demo.cli import average as average_command
from rtdetr_demo.cli import train as command
from rtdetr_demo.errors import BadInput
from rtdetr_demo.training import dataset as train_data
from rtdetr_demo.training import trainer as train
from rtdetr_demo.training.architecture import build_model, export, load_weights
from rtdetr_demo.training.dataset import Augmentation
from rtdetr_demo.training.losses import (
    FIRST_LAYER,
    assign,
    dense_loss,
    duplicate_loss,
    mask_ignored,
    weight_losses,
)

pytest.importorskip("scipy", reason="transformers' loss needs requirements-train.txt")
pytest.importorskip("matplotlib", reason="the run's curves need requirements-train.txt")

COLORS = {"car": (220, 30, 30), "dog": (30, 60, 220)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures, each with a red car and a blue dog: plain rectangles on noise."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(8):
        picture = Image.fromarray(rng.integers(90, 150, (120, 160, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(picture)
        for k, color in enumerate(COLORS.values()):
            x, y = int(rng.integers(5, 25)) + 80 * k, int(rng.integers(10, 40))
            draw.rectangle((x, y, x + 49, y + 59), fill=color)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": 5 + k,
                    "bbox": [x, y, 50, 60],
                    "area": 3000,
                    "iscrowd": 0,
                }
            )
        name = f"{i}.png"
        picture.save(folder / "images" / name)
        images.append({"id": i, "width": 160, "height": 120, "file_name": name})
    categories = [{"id": 5 + k, "name": name} for k, name in enumerate(COLORS)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(instances))
    return folder


def options(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    fixed = ["--sizes", "96", "--full-sizes", "96", "--size", "96", "--batch", "4", "--mosaic", "0"]
    fixed += ["--log-every", "1", "--rates", "1e-3", "1e-3", "--warmup", "4", "--device", "cpu"]
    return parser.parse_args([*fixed, *map(str, words)])


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from random weights: the ImageNet package is not needed to see a loss fall."""
    monkeypatch.setattr(train, "imagenet_backbone", lambda: None)


def rows(folder: Path, name: str = "log.csv") -> list[dict[str, str]]:
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("part", ["dense", pytest.param("full", marks=pytest.mark.slow)])
def test_the_loss_falls(toy: Path, tmp_path: Path, part: str):
    share = 1 if part == "dense" else 0
    words = ["--data", toy, "--out", tmp_path, "--epochs", 10, "--dense-part", share]
    assert command.run(options(*words)) == 0
    log = rows(tmp_path)
    column = "dense_loss" if part == "dense" else "loss"
    losses = [float(row[column]) for row in log if row["part"] == part]
    assert len(losses) == 20
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.slow
def test_an_interrupted_run_continues_where_it_was(toy: Path, tmp_path: Path):
    """Through the change of parts: four epochs at once end as two and two do."""
    words = ["--data", toy, "--epochs", 4, "--dense-part", 0.5]
    command.run(options(*words, "--out", tmp_path / "whole"))

    first = train.Run(options(*words, "--out", tmp_path / "halves"))
    first.log = lambda *_: stop_after(first, 4)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    command.run(options(*words, "--out", tmp_path / "halves", "--resume"))

    assert [int(row["step"]) for row in rows(tmp_path / "halves")] == [5, 6, 7, 8]
    whole, halves = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "halves")
    )
    assert halves["step"] == whole["step"] == 8
    assert halves["part"] == "full"
    assert halves["progress"] == pytest.approx(1)
    counts = {int(state["step"]) for state in halves["optimizer"]["state"].values()}
    assert max(counts) == 8, "the optimizer remembers the steps before the interruption"
    for name, value in whole["average"].items():
        torch.testing.assert_close(halves["average"][name], value, rtol=1e-3, atol=1e-4)


def stop_after(run: train.Run, step: int) -> None:
    """Save and interrupt a run once it has made so many steps."""
    if run.step == step:
        run.args.out.mkdir(exist_ok=True)
        run.save()
        raise KeyboardInterrupt


def test_a_run_ends_in_a_folder_that_loads_and_was_validated(toy: Path, tmp_path: Path):
    words = ["--data", toy, "--val", toy, "--out", tmp_path, "--epochs", 2, "--dense-part", 0.5]
    command.run(options(*words))
    model = RTDetrForObjectDetection.from_pretrained(tmp_path / "best")
    assert model.config.id2label == {0: "car", 1: "dog"}
    assert model.dtype == torch.float32
    assert [int(row["layers"]) for row in rows(tmp_path, "val.csv")] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_training_can_go_on_from_the_folder_of_an_earlier_run(toy: Path, tmp_path: Path):
    run = train.Run(options("--data", toy))
    export(run.model, tmp_path / "earlier", 96)
    later = train.Run(options("--data", toy, "--start", tmp_path / "earlier"))
    assert later.part == "full"
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(later.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_a_folder_for_other_classes_is_refused_in_words(toy: Path, tmp_path: Path):
    export(build_model(["car", "cat"], None), tmp_path / "earlier", 96)
    with pytest.raises(BadInput, match="other classes"):
        train.Run(options("--data", toy, "--start", tmp_path / "earlier"))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_holds_the_same_set_as_a_folder(toy: Path, tmp_path: Path, kind: str):
    archive = tmp_path / f"toy.{kind}"
    if kind == "tar":
        with tarfile.open(archive, "w") as file:
            file.add(toy, arcname="toy")
    else:
        with zipfile.ZipFile(archive, "w") as file:
            for path in toy.rglob("*"):
                file.write(path, path.relative_to(toy))
    packed, names = train_data.load_samples(archive)
    plain, _ = train_data.load_samples(toy)
    assert names == ["car", "dog"]
    for one, other in zip(packed, plain, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_boxes_follow_pictures_that_were_shrunk(toy: Path, tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "instances.json").write_bytes((toy / "instances.json").read_bytes())
    for path in (toy / "images").iterdir():
        Image.open(path).resize((80, 60)).save(tmp_path / "images" / path.name)
    small, large = train_data.load_samples(tmp_path)[0], train_data.load_samples(toy)[0]
    np.testing.assert_allclose(small[0].boxes * 2, large[0].boxes)


def test_a_set_without_its_images_is_an_error_in_words(toy: Path, tmp_path: Path):
    (tmp_path / "instances.json").write_bytes((toy / "instances.json").read_bytes())
    with pytest.raises(BadInput, match="lacks 8 of its images"):
        train_data.load_samples(tmp_path)


def test_two_images_of_one_name_are_an_error_in_words(toy: Path, tmp_path: Path):
    folder = shutil.copytree(toy, tmp_path / "set")
    (folder / "more").mkdir()
    shutil.copy(folder / "images" / "3.png", folder / "more")
    with pytest.raises(BadInput, match=r"two files named 3\.png"):
        train_data.load_samples(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("instances.json", b"{", "not in COCO's form"),
        ("instances.json", b'{"images": 3}', "not in COCO's form"),
        ("instances.json", b'{"images": [{}]}', "not in COCO's form"),
        ("images/3.png", b"no picture", r"3\.png of .* is no picture"),
    ],
)
def test_a_damaged_set_is_an_error_in_words(toy: Path, tmp_path: Path, name, content, words):
    folder = shutil.copytree(toy, tmp_path / "set")
    (folder / name).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        train_data.load_samples(folder)


def test_a_damaged_archive_is_an_error_in_words(tmp_path: Path):
    (tmp_path / "set.zip").write_bytes(b"PK\x05\x06" + bytes(18) + b"PK")
    with pytest.raises(BadInput):
        train_data.load_samples(tmp_path / "set.zip")


@pytest.mark.parametrize(
    "words",
    [
        ("--batch", 0), ("--workers", 3), ("--warmup", 0), ("--log-every", 0),
        ("--epochs", 0), ("--minutes", 0), ("--minutes", -1),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_an_error_in_words(toy: Path, words: tuple[str, object]):
    with pytest.raises(BadInput, match=words[0]):
        command.run(options("--data", toy, *words))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_stay_on_their_objects_through_augmentation(toy: Path, mosaic: float):
    """Each box, drawn back on the augmented picture, holds its object's colour."""
    samples, names = train_data.load_samples(toy)
    rng = np.random.default_rng(3)
    checked = 0
    for index in range(24):
        augmentation = Augmentation(mosaic)
        image, boxes, labels = train_data.augment(rng, samples, index % 8, 128, augmentation)
        assert ((boxes >= 0) & (boxes <= 1)).all()
        for box, label in zip(boxes * 128, labels, strict=True):
            if label >= 0:
                x0, y0, x1, y1 = box.round().astype(int)
                inside = image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].reshape(-1, 3)
                if len(inside):
                    wanted = COLORS[names[label]]
                    assert np.abs(inside.mean(0) - wanted).max() < 40
                    checked += 1
    assert checked > 20


def test_blended_images_are_both_seen_and_both_teach(toy: Path):
    samples, _ = train_data.load_samples(toy)
    rng = np.random.default_rng(0)
    one, other = (train_data.compose(rng, samples, index, 96, 0.0) for index in (0, 1))
    image, boxes, labels = train_data.blend(np.random.default_rng(0), one, other)
    share = np.random.default_rng(0).beta(8, 8)
    np.testing.assert_allclose(image, share * one[0] + (1 - share) * other[0], atol=0.51)
    np.testing.assert_array_equal(boxes, np.concatenate([one[1], other[1]]))
    np.testing.assert_array_equal(labels, np.concatenate([one[2], other[2]]))


def test_what_an_erased_rectangle_hides_is_no_longer_to_be_found():
    hidden = 0
    for seed in range(40):
        canvas = np.zeros((96, 96, 3), np.uint8)
        boxes = np.array([[40, 40, 52, 52], [0, 0, 96, 96]], np.float32)
        labels = train_data.erase(np.random.default_rng(seed), canvas, boxes, np.array([3, 5]))
        assert labels[1] == 5, "more of a large object is left than is gone"
        seen = (canvas[40:52, 40:52] == 0).all(-1).mean()
        if seen > 0.6:
            assert labels[0] == 3
        if labels[0] == -1:
            hidden += 1
            assert seen <= 0.55
    assert hidden


def test_a_spoiled_image_is_the_same_scene(toy: Path):
    [sample, *_], _ = train_data.load_samples(toy)
    canvas = np.ascontiguousarray(sample.image)
    greys = canvas.astype(float).mean(-1)
    for seed in range(12):
        spoiled = train_data.spoil(np.random.default_rng(seed), canvas)
        assert spoiled.shape == canvas.shape
        assert spoiled.dtype == np.uint8
        assert (spoiled != canvas).any()
        assert np.corrcoef(spoiled.astype(float).mean(-1).ravel(), greys.ravel())[0, 1] > 0.8


def test_the_same_step_draws_the_same_batch(toy: Path):
    samples, _ = train_data.load_samples(toy)
    every = Augmentation(0.5, 0.5, 0.5)
    one, other = (train_data.make_batch(samples, 7, 4, 96, every, seed=1)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_an_epoch_shows_every_image_once(toy: Path):
    samples, _ = train_data.load_samples(toy)
    drawn: list[int] = []
    with pytest.MonkeyPatch.context() as patch:

        def note(rng, samples, index, size, augmentation):
            drawn.append(index)
            return np.zeros((size, size, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64)

        patch.setattr(train_data, "augment", note)
        for step in range(2):
            train_data.make_batch(samples, step, 4, 32, Augmentation(), seed=0)
    assert sorted(drawn) == list(range(8))


def test_positives_are_the_tokens_that_fit_best():
    """One object; two tokens inside it, of which the second predicts it exactly."""
    centers = torch.tensor([[0.4, 0.5], [0.5, 0.5], [0.9, 0.9]])
    truth = torch.tensor([[[0.5, 0.5, 0.4, 0.4]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4]]])
    scores = torch.full((1, 3, 2), 0.5)
    owner, weight, quality = assign(scores, boxes, centers, torch.tensor([[1]]), truth)
    assert owner.tolist() == [[0, 0, -1]], "the third predicts it too, from outside"
    assert weight[0, 1].item() == pytest.approx(1)
    assert quality[0, 1].item() == pytest.approx(1, abs=1e-3)
    assert 0 < weight[0, 0] < 0.1


def test_ignored_regions_teach_nothing():
    """A confident wrong answer costs something, unless it lies in a region to ignore."""
    centers = torch.tensor([[0.2, 0.2], [0.8, 0.8]])
    logits = torch.tensor([[[-9.0], [3.0]]])
    boxes = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]]])
    target = {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}
    region = torch.tensor([[0.8, 0.8, 0.3, 0.3]])
    plain = dense_loss(logits, boxes, centers, [{**target, "ignored": torch.zeros(0, 4)}])
    spared = dense_loss(logits, boxes, centers, [{**target, "ignored": region}])
    assert plain > 1
    assert spared < 1e-3

    muted = mask_ignored(logits[:, None], boxes[:, None], [{**target, "ignored": region}])
    assert muted[0, 0, :, 0].tolist() == [-9.0, -30.0]


def test_the_last_layer_counts_most_and_the_proposals_in_full():
    ones = ["loss_vfl", "loss_bbox_aux_5", "loss_giou_dn_5"]
    early = ["loss_vfl_aux_0", "loss_bbox_dn_0"]
    assert weight_losses({name: torch.tensor(2.0) for name in ones}, 6).item() == pytest.approx(6)
    assert weight_losses({name: torch.tensor(1.0) for name in early}, 6).item() == pytest.approx(
        2 * FIRST_LAYER
    )
    middle = [weight_losses({f"loss_vfl_aux_{i}": torch.tensor(1.0)}, 6).item() for i in range(6)]
    assert middle == sorted(middle)


def test_only_a_query_that_repeats_a_better_one_of_its_class_is_a_duplicate():
    """One object, four queries: the best, its repetition, one of another class, one elsewhere."""
    box = [0.5, 0.5, 0.4, 0.4]
    boxes = torch.tensor([[[box, [0.5, 0.5, 0.4, 0.42], box, [0.1, 0.1, 0.1, 0.1]]]])
    logits = torch.full((1, 1, 4, 2), -9.0)
    for query, (label, logit) in enumerate([(0, 2.0), (0, 1.0), (1, 0.5), (0, 0.0)]):
        logits[0, 0, query, label] = logit
    logits.requires_grad_()
    target = {
        "class_labels": torch.tensor([0]),
        "boxes": torch.tensor([box]),
        "ignored": torch.zeros(0, 4),
    }
    duplicate_loss(logits, boxes, [target]).backward()
    pushed = (logits.grad != 0).nonzero().tolist()
    assert pushed == [[0, 0, 1, 0]]
    assert logits.grad[0, 0, 1, 0] > 0, "the gradient lowers its score"


def folder_of(parent: Path, names: list[str], value: float) -> Path:
    """A trained folder all of whose floating-point weights are `value`."""
    model = build_model(names, None)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(value)
    folder = parent / f"{'-'.join(names)} {value}"
    export(model, folder, 96)
    return folder


def average(out: Path, *parts: str) -> None:
    parser = argparse.ArgumentParser()
    average_command.add_arguments(parser)
    average_command.run(parser.parse_args([str(out), *parts]))


def test_an_average_is_weighted_and_loads(tmp_path: Path):
    one, other = (folder_of(tmp_path, ["car", "dog"], value) for value in (1.0, 4.0))
    average(tmp_path / "mean", f"{one}:2", f"{other}:1")
    model = build_model(["car", "dog"], None)
    load_weights(model, tmp_path / "mean")
    for value in model.state_dict().values():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.full_like(value, 2.0))
    RTDetrForObjectDetection.from_pretrained(tmp_path / "mean")


def test_what_has_no_average_is_an_error_in_words(tmp_path: Path):
    one = folder_of(tmp_path, ["car", "dog"], 1.0)
    other = folder_of(tmp_path, ["car", "cat"], 1.0)
    for parts, words in [
        ([f"{one}:1", f"{other}:1"], "differ in classes"),
        ([f"{one}"], "not FOLDER:SHARE"),
        ([f"{one}:0"], "not FOLDER:SHARE"),
        ([f"{one}:nan"], "not FOLDER:SHARE"),
        ([f"{tmp_path}:1"], "no folder that"),
    ]:
        with pytest.raises(BadInput, match=words):
            average(tmp_path / "mean", *parts)
    assert not (tmp_path / "mean").exists()
