"""`python -m rtdetr_demo depth`."""

import csv
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from rtdetr_demo.__main__ import main
from rtdetr_demo.cli import depth as command
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.media.images import read_picture
from tests.support.paths import EXAMPLES


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs and two files that are none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("cat.jpg", "dogs.jpg", "more/cows.jpg"):
        with Image.open(EXAMPLES / Path(name).name) as opened:
            opened.resize((320, 240)).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def run(*words: object) -> int:
    return main(["depth", *map(str, words)])


def test_reports_hold_every_depth(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "html")}
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    words = ["--checkpoint", tiny, "--threshold", 0.4, "--keep", 50]
    assert run(photos, *words, *options) == 0
    out = capsys.readouterr().out
    content = json.loads(files["json"].read_text())
    assert content["pictures"] == 3
    unreadable = [picture["picture"] for picture in content["unreadable"]]
    assert unreadable == ["bad.jpg", "empty.jpg"]
    assert {loss["picture"] for loss in content["losses"]} <= {
        "cat.jpg",
        "dogs.jpg",
        "more/cows.jpg",
    }
    overall = [row for row in content["depths"] if row["kind"] == "all"]
    assert [(row["iou"], row["layers"]) for row in overall] == [
        (iou, layers) for iou in (0.5, 0.75) for layers in range(1, 7)
    ]
    assert overall[5]["kept"] == overall[5]["reference"] > 0
    assert overall[0]["kept"] < overall[0]["reference"], "a case in which something is lost"
    assert len(content["latency"]["total_ms"]) == 6
    assert content["recommendation"]["keep"] == 0.5
    assert content["summary"] in out
    assert "2 pictures could not be read" in out
    with files["csv"].open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(content["depths"])
    html = files["html"].read_text()
    assert "src='data:image/jpeg;base64," in html
    assert "://" not in html
    assert str(photos) not in html, "a report that is passed on does not tell where photos lie"


def test_what_is_counted_is_what_detect_gives(tiny: Path, photos: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", tiny, "--threshold", 0.4, "--no-timing"]
    assert run(photos / "cat.jpg", *words, "--json", tmp_path / "out.json") == 0
    content = json.loads((tmp_path / "out.json").read_text())
    picture = read_picture(photos / "cat.jpg")
    predictions = command.load(str(tiny)).detect(picture)
    assert content["depths"][0]["reference"] == len(predictions.select(6, 0.4))
    assert content["latency"] is None


def test_batches_give_what_single_pictures_give(
    tiny: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [photos, "--checkpoint", tiny, "--threshold", 0.4, "--no-timing", "--json"]
    run(*words, tmp_path / "together.json")
    monkeypatch.setattr(command, "BATCH_PIXELS", 1)
    run(*words, tmp_path / "single.json")
    together, single = (
        json.loads((tmp_path / f"{name}.json").read_text())["depths"]
        for name in ("together", "single")
    )
    assert together == single


def test_an_interrupted_run_reports_what_is_done(
    tiny: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    detect_batch, passes = Detector.detect_batch, []

    def interrupted(*arguments: object) -> object:
        passes.append(arguments)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return detect_batch(*arguments)

    monkeypatch.setattr(command, "BATCH_PIXELS", 1)
    monkeypatch.setattr(Detector, "detect_batch", interrupted)
    words = ["--checkpoint", tiny, "--threshold", 0.4, "--json", tmp_path / "out.json"]
    assert run(photos, *words) == 0
    assert "Stopped after 2 of 5 photos" in capsys.readouterr().err
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["pictures"], content["latency"]) == (2, None)
    passes[:] = [(), ()]
    assert run(photos, *words) == 130


def test_labels_give_ap(tiny: Path, photos: Path, tmp_path: Path, capsys) -> None:
    labels = tmp_path / "labels"
    (labels / "more").mkdir(parents=True)
    (labels / "classes.txt").write_text("dog\ncat\nzebra\n")
    (labels / "cat.txt").write_text("1 0.5 0.5 0.6 0.6\n")
    (labels / "more" / "cows.txt").write_text("")
    words = ["--checkpoint", tiny, "--no-timing", "--threshold", 0.3, "--labels", labels]
    assert run(photos, *words, "--json", tmp_path / "out.json") == 0
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["labelled_pictures"] == 2
    assert [set(averages) >= {"layers", "AP", "AP50"} for averages in content["averages"]] == [
        True
    ] * 6
    assert "does not know them: zebra" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none"], "none could not be read: No such file"),
        (["void"], "no picture in"),
        (["spoiled"], "None of 2 pictures could be read"),
        (["photos", "--threshold", "1"], "detects nothing above 1"),
        (["photos", "--threshold", "2"], "from 0 to 1"),
        (["photos", "--keep", "0"], "a percentage over 0"),
        (["photos", "--labels", "none.json"], "could not be read"),
        (["photos", "--labels", "void"], "no data.yaml or classes.txt"),
        (["photos", "--json", "photos/cat.jpg/out.json"], "could not be written"),
        (["photos", "--csv", "void"], "it is a folder"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    tiny: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "void").mkdir()
    (tmp_path / "spoiled").mkdir()
    for name in ("bad.jpg", "empty.jpg"):
        (photos / name).rename(tmp_path / "spoiled" / name)
    assert run(*words, "--checkpoint", tiny, "--no-timing") == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_labels_without_the_package_name_it(
    tiny: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "classes.txt").write_text("dog\n")
    for name in ("depth_scores", "coco"):
        monkeypatch.delitem(sys.modules, f"rtdetr_demo.evaluation.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert run(photos, "--checkpoint", tiny, "--labels", tmp_path) == 1
    assert "requirements-train.txt" in capsys.readouterr().err
