"""`python -m rtdetr_demo detect --ray` on a cluster of two nodes."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rtdetr_demo.__main__ import main
from tests.support.paths import EXAMPLES
from tests.support.processes import descendants

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

import ray
from pyarrow import parquet
from ray.cluster_utils import Cluster

from rtdetr_demo.batch.cluster import Layout

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.usefixtures("one_thread"),
]

STORE = {"object_store_memory": 100 * 2**20}
PICTURES = 60


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    photos = sorted(EXAMPLES.glob("*.jpg"))
    for number in range(PICTURES - 1):
        with Image.open(photos[number % len(photos)]) as photo:
            photo.reduce(2).rotate(number).save(folder / f"{number:03}.jpg")
    (folder / "005a.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    short = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it: names have a limit
    os.environ["RAY_TMPDIR"] = short
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE},
    )
    cluster.add_node(num_cpus=1, **STORE)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    del os.environ["RAY_TMPDIR"]
    shutil.rmtree(short)


def detect(tiny: Path, *arguments: str | Path) -> list[str]:
    fixed = ["--checkpoint", str(tiny), "--runtime", "torch", "--threshold", "0.3"]
    return ["detect", *map(str, arguments), *fixed]


@pytest.fixture(scope="module")
def plain(tiny: Path, album: Path, one_thread: None, tmp_path_factory) -> list[dict[str, Any]]:
    """The rows of a run without Ray."""
    out = tmp_path_factory.mktemp("plain") / "rows.parquet"
    assert main(detect(tiny, album, "--out", out)) == 0
    rows = parquet.read_table(out).to_pylist()
    assert len(rows) == PICTURES
    return rows


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.iterdir())
    assert all(file.name.startswith("part-") for file in files)
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def when_parts_are_there(folder: Path, count: int, act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while len(list(folder.glob("part-*"))) < count:
            time.sleep(0.01)
        act()

    watching = threading.Thread(target=wait, daemon=True)
    watching.start()
    return watching


def workers() -> list[int]:
    return [pid for pid, command in descendants().items() if "ray::MapWorker" in command]


def test_two_workers_write_the_rows_of_a_run_without_ray(
    cluster: Cluster, tiny: Path, album: Path, plain: list, tmp_path: Path, capsys
):
    out = tmp_path / "rows.parquet"
    address = ["--ray", cluster.address, "--part-size", "3", "--workers", "2"]
    assert main(detect(tiny, album, "--out", f"file://{out}", *address)) == 0
    assert rows_of(out) == plain
    assert "1 of 60 pictures could not be read" in capsys.readouterr().err
    assert main(detect(tiny, album, "--out", out, *address)) == 1
    assert "Go on with --resume" in capsys.readouterr().err


def test_a_killed_worker_loses_and_doubles_nothing(
    cluster: Cluster, tiny: Path, album: Path, plain: list, tmp_path: Path
):
    out, killed = tmp_path / "rows.parquet", list[int]()

    def kill() -> None:
        killed.append(workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    watching = when_parts_are_there(out, 3, kill)
    address = ["--ray", cluster.address, "--part-size", "3", "--workers", "2"]
    assert main(detect(tiny, album, "--out", out, *address)) == 0
    watching.join(1)
    assert killed
    assert rows_of(out) == plain


def test_other_forms_come_from_the_parts_and_resume_does_what_is_missing(
    cluster: Cluster, tiny: Path, album: Path, tmp_path: Path, capsys
):
    """As after a kill: parts are whole or not there, and an unfinished file is nothing."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    main(detect(tiny, album, "--out", whole))
    parts = tmp_path / "rows.parquet"
    address = ["--ray", cluster.address, "--part-size", "7"]
    main(detect(tiny, album, "--out", parts, *address))
    parts.rename(tmp_path / "rows.jsonl.parts")
    for number in (1, 4, 5):
        (tmp_path / f"rows.jsonl.parts/part-{number:06}.parquet").unlink()
    (tmp_path / "rows.jsonl.parts/.part-000004.parquet.unfinished").write_bytes(b"PAR1")
    assert main(detect(tiny, album, "--out", out, "--resume", "--layers", "2", *address)) == 1
    assert "had another decoder layers" in capsys.readouterr().err
    assert main(detect(tiny, album, "--out", out, "--resume", *address)) == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        json.loads(line) for line in whole.read_text().splitlines()
    ]
    assert not (tmp_path / "rows.jsonl.parts").exists()


def test_what_a_worker_cannot_do_is_a_sentence(
    cluster: Cluster, tiny: Path, album: Path, tmp_path: Path, capsys
):
    arguments = ["--out", tmp_path / "rows.parquet", "--annotated", "/proc/none"]
    assert main(detect(tiny, album, *arguments, "--ray", cluster.address)) == 1
    err = capsys.readouterr().err
    assert "could not be written" in err
    assert "Traceback" not in err


def test_a_node_taken_away_loses_and_doubles_nothing(
    cluster: Cluster, tiny: Path, album: Path, plain: list, tmp_path: Path
):
    """The last test here: the node does not come back."""
    out, taken = tmp_path / "rows.parquet", list[bool]()

    def take_away() -> None:
        taken.append(cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False))

    watching = when_parts_are_there(out, 3, take_away)
    address = ["--ray", cluster.address, "--part-size", "3", "--workers", "2"]
    assert main(detect(tiny, album, "--out", out, *address)) == 0
    watching.join(10)
    assert taken
    assert rows_of(out) == plain


def test_the_cluster_is_shared_out_by_cards_or_by_nodes():
    cpu, card = {"CPU": 16.0}, {"CPU": 32.0, "GPU": 4.0}
    assert Layout.of([cpu, cpu], None) == Layout(2, 16, 0)
    assert Layout.of([cpu, cpu], 8) == Layout(8, 4, 0)
    assert Layout.of([cpu, card, {"CPU": 0.0}], None) == Layout(4, 8, 1)
