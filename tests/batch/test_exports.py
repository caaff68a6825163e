"""What a run writes opens in the tools that people use."""

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import supervision
import yaml
from PIL import Image
from pycocotools.coco import COCO

from rtdetr_demo.__main__ import main
from rtdetr_demo.batch.rows import Row, RunInfo
from rtdetr_demo.batch.writers import writer_of
from rtdetr_demo.media.coco_categories import COCO_IDS, category_ids
from rtdetr_demo.predictions import Detection
from tests.support.paths import EXAMPLES, REPO

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, one of them deeper and two named like files of an export."""
    monkeypatch.chdir(tmp_path)
    with Image.open(EXAMPLES / "dogs.jpg") as photo:
        small = photo.reduce(4)
        for name in ("a.jpg", "deep/b.jpg", "classes.jpg", "errors.jpg"):
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            small.save(path)
    return tmp_path / "photos"


def detect(tiny: Path, *arguments: str | Path) -> int:
    fixed = ["--checkpoint", str(tiny), "--runtime", "torch", "--threshold", "0.3"]
    return main(["detect", *map(str, arguments), *fixed])


def test_supervision_and_pycocotools_open_the_coco_file_beside_the_folder(tiny, photos, capsys):
    assert detect(tiny, "photos", "--out", "rows.json") == 0
    names = {image["file_name"] for image in COCO("rows.json").imgs.values()}
    assert names == {"a.jpg", "deep/b.jpg", "classes.jpg", "errors.jpg"}
    loaded = supervision.DetectionDataset.from_coco("photos", "rows.json")
    assert len(loaded) == 4
    for _, image, detections in loaded:
        assert image is not None
        assert len(detections)


def test_coco_ids_are_those_of_the_data_set():
    names = [name for name in COCO_IDS if name not in ("motorbike", "aeroplane", "sofa")][:80]
    assert len({COCO_IDS[name] for name in names}) == 80
    known = {"person": 1, "stop sign": 13, "bench": 15, "backpack": 27, "tv": 72, "toothbrush": 90}
    assert {name: COCO_IDS[name] for name in known} == known
    assert category_ids(["person", "dog", "tvmonitor"]) == [1, 18, 72]
    assert category_ids(["person", "helmet"]) == [1, 2]
    assert category_ids(["tv", "tvmonitor"]) == [1, 2]


def ultralytics_labels(image: Path, labels: Path, classes: int) -> np.ndarray:
    """The label file of a picture, with ultralytics' own checks (`verify_image_label`)."""
    lines = (labels / image.with_suffix(".txt")).read_text().strip().splitlines()
    values = np.array([line.split() for line in lines if line], dtype=np.float32)
    assert values.shape[1] == 5
    assert values.min() >= 0
    assert values[:, 1:].max() <= 1
    assert values[:, 0].max() < classes
    return values


def test_yolo_labels_open_and_no_side_file_takes_a_pictures_place(tiny, photos, capsys):
    assert detect(tiny, "photos", "--out", "labels/") == 0
    names = yaml.safe_load(Path("labels/data.yaml").read_text(encoding="utf-8"))["names"]
    config = json.loads((tiny / "config.json").read_text())
    assert names == {int(k): v for k, v in config["id2label"].items()}
    for image in photos.rglob("*.jpg"):
        assert len(ultralytics_labels(image.relative_to(photos), Path("labels"), len(names)))


def test_supervision_opens_the_yolo_folder(tiny, photos, capsys):
    flat = photos / "flat"
    flat.mkdir()
    for name in ("a.jpg", "classes.jpg"):
        (photos / name).rename(flat / name)
    assert detect(tiny, "photos/flat", "--out", "labels/") == 0
    loaded = supervision.DetectionDataset.from_yolo("photos/flat", "labels", "labels/data.yaml")
    assert len(loaded) == 2
    assert all(len(detections) for _, _, detections in loaded)


def test_the_names_of_classes_are_in_classes_txt_where_no_picture_has_that_name(
    tiny, photos, capsys
):
    assert detect(tiny, "photos/deep", "--out", "labels/") == 0
    config = json.loads((tiny / "config.json").read_text())
    assert Path("labels/classes.txt").read_text(encoding="utf-8").splitlines() == list(
        config["id2label"].values()
    )


RUN = RunInfo("c", ("=cmd|'/c calc'!A0", "dog"), 6, 0.5, "PyTorch")


def row(name: str, **changes: object) -> Row:
    found = (Detection(RUN.class_names[0], 0, 0.6, 0, 1, 2, 3),)
    return Row(name, "stem", 4, 3, found, **changes)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", " =", "＝"])
def test_a_spreadsheet_takes_nothing_for_a_formula(tmp_path: Path, start: str):
    rows = [row(f"{start}1+1.jpg", note=f"{start}2"), Row(f"{start}x", "x", error=f"{start}3")]
    writer_of("rows.csv")(tmp_path / "rows.csv", lambda: rows, RUN)
    with (tmp_path / "rows.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    texts = [cell for cell in cells if not cell.lstrip("-").replace(".", "").isdecimal()]
    assert not [text for text in texts if text.strip(" ").startswith(tuple("=+-@\t＝"))]
    assert f"'{start}1+1.jpg" in cells


def test_pandas_reads_the_table_with_its_numbers(tiny, photos, capsys):
    assert detect(tiny, "photos", "--out", "rows.csv") == 0
    table = pandas.read_csv("rows.csv")
    assert set(table["picture"]) == {
        f"photos/{path.relative_to(photos)}" for path in photos.rglob("*.jpg")
    }
    for column in ("score", "x", "y", "width", "height", "area_share"):
        assert table[column].dtype == float


def test_a_note_on_a_picture_is_in_every_form(tiny, photos, capsys):
    whole = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(whole[:-2])
    for out in ("rows.jsonl", "rows.json", "rows.csv", "labels/"):
        assert detect(tiny, "photos", "--out", out) == 0
    notes = [
        json.loads(line).get("note")
        for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [note is not None for note in notes] == [True, False, False, False]
    [noted] = [image for image in COCO("rows.json").imgs.values() if "note" in image]
    assert noted["file_name"] == "a.jpg"
    assert pandas.read_csv("rows.csv")["note"].notna().any()
    assert "lacks its end" in Path("labels/notes.csv").read_text(encoding="utf-8")


def test_a_note_on_one_picture_is_printed(tiny, photos, capsys):
    (photos / "a.jpg").write_bytes((photos / "a.jpg").read_bytes()[:-2])
    assert detect(tiny, "photos/a.jpg") == 0
    assert "lacks its end" in capsys.readouterr().err


def test_what_is_left_out_is_reported(tiny, photos, capsys):
    (photos / "notes.txt").write_text("no picture")
    assert detect(tiny, "photos", "--out", "rows.jsonl") == 0
    assert "Left out: 1 files that are not named like pictures." in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--annotated"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tiny, photos, option, capsys):
    assert detect(tiny, "photos", option, "/proc/rows/x/") == 1
    err = capsys.readouterr().err
    assert "could not be written" in err
    assert option in err
    assert "pictures/s" not in err


def run(*arguments: str | Path, limit: int | None = None, **options: object):
    """The command in a process of its own; `limit`: largest file that it may write, in bytes."""

    def prepare() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "rtdetr_demo", "detect", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True, preexec_fn=prepare, check=False, **options,
    )  # fmt: skip


@pytest.mark.load
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_standard_output_is_a_sentence(tiny, photos):
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = run("photos", "--checkpoint", tiny, "--runtime", "torch", stdout=full)
    assert ended.returncode == 1
    assert "Standard output could not be written: No space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


@pytest.mark.load
def test_a_run_on_a_full_disk_is_a_sentence_and_resumes(tiny, photos):
    fixed = ("photos", "--checkpoint", tiny, "--runtime", "torch", "--threshold", "0.3")
    ended = run(*fixed, "--out", "rows.jsonl", limit=60_000)
    assert ended.returncode == 1
    assert "could not be written" in ended.stderr
    assert "--resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert run(*fixed, "--out", "rows.jsonl", "--resume").returncode == 0
    assert run(*fixed, "--out", "whole.jsonl").returncode == 0
    assert Path("rows.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
