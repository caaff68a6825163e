"""`python -m rtdetr_demo detect` with many pictures."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from rtdetr_demo.__main__ import main
from rtdetr_demo.batch.journal import Journal
from rtdetr_demo.batch.rows import Row, RunInfo
from rtdetr_demo.errors import BadInput
from rtdetr_demo.predictions import Detection
from tests.support.journals import rows_in_journal
from tests.support.paths import EXAMPLES, REPO

pytestmark = pytest.mark.usefixtures("one_thread")

FORMS = ["rows.jsonl", "coco.json", "rows.csv", "labels/", "rows.parquet"]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pictures, one of them empty and one that is text."""
    folder = tmp_path_factory.mktemp("album")
    photos = sorted(EXAMPLES.glob("*.jpg"))
    for number in range(14):
        with Image.open(photos[number % len(photos)]) as photo:
            photo.reduce(3).rotate(number).save(folder / f"{number:03}.jpg")
    (folder / "005a.jpg").write_bytes(b"")
    (folder / "007a.png").write_text("no picture")
    return folder


def detect(tiny: Path, *arguments: str | Path) -> list[str]:
    fixed = ["--checkpoint", str(tiny), "--runtime", "torch", "--threshold", "0.3"]
    return ["detect", *map(str, arguments), *fixed]


def content(out: Path) -> dict[str, bytes]:
    files = sorted(out.rglob("*.*")) if out.is_dir() else [out]
    return {str(file.relative_to(out)): file.read_bytes() for file in files if file.is_file()}


def test_every_picture_has_a_row_in_its_place_and_bad_ones_say_why(tiny: Path, album: Path, capsys):
    assert main(detect(tiny, album)) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["picture"] for row in rows] == sorted(map(str, album.iterdir()))
    errors = {Path(row["picture"]).name: row["error"] for row in rows if "error" in row}
    assert errors == {
        "005a.jpg": "This file is empty. Choose another one.",
        "007a.png": "This is not a picture that we can open. Send a JPEG, PNG, WebP, GIF, TIFF or "
        "HEIC.",
    }
    assert "2 of 16 pictures could not be read" in err
    assert "16/16" in err
    assert "pictures" in err


def test_a_row_says_what_the_picture_alone_is_answered(tiny: Path, album: Path, capsys):
    picture = str(album / "003.jpg")
    main(detect(tiny, picture, "--json"))
    alone = json.loads(capsys.readouterr().out)
    main(detect(tiny, picture, album / "004.jpg"))
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    del alone["timing_ms"]
    assert row == {"picture": picture, **alone}
    assert row["detections"]


def test_the_forms_say_the_same(tiny: Path, album: Path, tmp_path: Path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    for form in FORMS:
        assert main(detect(tiny, album, "--out", f"{tmp_path}/{form}")) == 0
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    counts = {row["picture"]: len(row.get("detections", ())) for row in rows}
    total = sum(counts.values())
    assert total > 40

    coco = COCO(str(tmp_path / "coco.json"))
    assert {
        image["file_name"]: len(coco.getAnnIds(imgIds=[number]))
        for number, image in coco.imgs.items()
    } == {Path(row["picture"]).name: counts[row["picture"]] for row in rows if "error" not in row}
    assert len(coco.dataset["errors"]) == 2

    with (tmp_path / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["picture"] for row in table} == set(counts)
    assert sum(bool(row["label"]) for row in table) == total
    assert sum(bool(row["error"]) for row in table) == 2

    labels = sorted((tmp_path / "labels").glob("[0-9]*.txt"))
    assert [len(file.read_text().splitlines()) for file in labels] == [
        counts[row["picture"]] for row in rows if "error" not in row
    ]
    first = [float(word) for word in labels[0].read_text().splitlines()[0].split()]
    assert len(first) == 5
    assert all(0 <= one <= 1 for one in first[1:])
    assert (tmp_path / "labels" / "errors.csv").read_text().count("\n") == 2

    [*read] = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["picture"] for row in read] == list(counts)
    assert [len(row["detections"]) for row in read] == list(counts.values())
    assert [row["error"] for row in read] == [row.get("error") for row in rows]
    for row, like in zip(read, rows, strict=True):
        for one, other in zip(row["detections"], like.get("detections", ()), strict=True):
            assert one["label"] == other["label"]
            assert int(one["xmin"]) == other["box"]["xmin"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_annotated_pictures_lie_as_their_originals_do(tiny: Path, album: Path, tmp_path, capsys):
    deep = tmp_path / "in" / "deep"
    deep.mkdir(parents=True)
    shutil.copy(album / "001.jpg", deep)
    shutil.copy(album / "005a.jpg", deep)
    drawn = tmp_path / "drawn"
    assert main(detect(tiny, tmp_path / "in", "--annotated", drawn)) == 0
    assert [file.relative_to(drawn) for file in drawn.rglob("*.jpg")] == [Path("deep/001.jpg")]
    with Image.open(drawn / "deep/001.jpg") as one, Image.open(deep / "001.jpg") as other:
        assert one.size == other.size
        assert one.tobytes() != other.tobytes()


@pytest.mark.load
def test_a_killed_run_resumes_to_the_bytes_of_one_that_was_not(
    tiny: Path, album: Path, tmp_path: Path, capsys
):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    journal = Path(f"{killed}.journal")
    assert main(detect(tiny, album, "--out", whole)) == 0
    command = detect(tiny, album, "--out", killed)
    process = subprocess.Popen(
        [sys.executable, "-m", "rtdetr_demo", *command],
        cwd=REPO, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while rows_in_journal(journal) < 4:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = Path(f"{journal}-wal")
    log.write_bytes(log.read_bytes()[:-9])  # as a lost write tears it
    assert 3 <= rows_in_journal(journal) < 16

    assert main(command) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--threshold", "0.4", "--resume"]) == 1
    assert "had another threshold" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert content(killed) == content(whole)
    assert sorted(os.listdir(tmp_path)) == [killed.name, whole.name]
    assert main([*command, "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().err


def test_a_journal_is_closed_before_it_is_deleted(tmp_path: Path, monkeypatch):
    run, unlink = RunInfo("c", ("dog",), 6, 0.5, "PyTorch"), Path.unlink

    def unlink_closed(path: Path, **options: bool) -> None:
        if sys.platform == "linux":
            opened = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
            assert str(path) not in opened, "Windows does not delete open files"
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink_closed)
    with Journal(tmp_path / "out") as journal:
        journal.open(run, resume=False)
        journal.add(Row("a", "a", error="No."))
        journal.remove()
    assert not list(tmp_path.iterdir())


def test_a_journal_of_another_version_is_a_sentence(tmp_path: Path):
    (tmp_path / "out.journal").write_bytes(b'{"checkpoint": "c"}\n' * 200)
    with Journal(tmp_path / "out") as journal, pytest.raises(BadInput, match="Delete it to begin"):
        journal.open(RunInfo("c", ("dog",), 6, 0.5, "PyTorch"), resume=True)


def test_a_resumed_run_keeps_what_is_done_and_does_what_came_meanwhile(tmp_path: Path):
    run = RunInfo("c", ("dog",), 6, 0.5, "PyTorch")
    rows = [
        Row("a", "a", error="No."),
        Row("c", "c", 4, 3, (Detection("dog", 0, 0.6, 0, 1, 2, 3),)),
    ]
    with Journal(tmp_path / "out") as journal:
        journal.open(run, resume=False)
        for row in rows:
            journal.add(row)
    with Journal(tmp_path / "out") as journal:
        journal.open(run, resume=True)
        assert (journal.done, journal.failed) == ({"a", "c"}, 1)
        with pytest.raises(BadInput, match="Another run"):
            Journal(tmp_path / "out").open(run, resume=True)
        journal.add(Row("b", "b", error="No."))
        assert list(journal.rows()) == [*rows, Row("b", "b", error="No.")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "rows.xlsx"], "no ending that we write"),
        (["--resume"], "name it with --out"),
        (["--save", "one.png"], "--annotated DIR"),
        (["--layers", "9"], "from 1 to 6"),
        (["--out", "/proc/none/rows.csv"], "could not be written"),
        (["--annotated", "/proc/none"], "could not be written"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(tiny: Path, album, capsys, arguments, words):
    assert main(detect(tiny, album, *arguments)) == 1
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_where_no_picture_can_be_read_the_command_fails(tiny: Path, tmp_path: Path, capsys):
    (tmp_path / "x.jpg").write_bytes(b"")
    assert main(detect(tiny, tmp_path)) == 1
    assert json.loads(capsys.readouterr().out)["error"]
