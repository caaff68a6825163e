"""The folder that a running demo writes into."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtdetr_demo.errors import DemoError, DiskFull
from rtdetr_demo.serving.scratch import Scratch
from tests.support.paths import REPO

HOLD = (
    "import sys, time; from pathlib import Path; "
    "from rtdetr_demo.serving.scratch import Scratch; "
    "print(Scratch(Path(sys.argv[1])).path, flush=True); time.sleep(60)"
)


def start(base: Path) -> tuple[subprocess.Popen, Path]:
    """Another process with a folder in `base`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(base)], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_it_is_private_and_gone_when_closed(tmp_path):
    scratch = Scratch(tmp_path / "äöü with spaces")
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    (scratch.uploads / "photo.jpg").write_bytes(b"x")
    scratch.close()
    assert list((tmp_path / "äöü with spaces").iterdir()) == []


def test_what_a_killed_run_left_goes_at_the_next_start_and_what_a_living_one_has_stays(tmp_path):
    dead, left = start(tmp_path)
    living, kept = start(tmp_path)
    try:
        dead.kill()
        dead.wait()
        scratch = Scratch(tmp_path)
        assert not left.exists()
        assert kept.exists()
        assert scratch.path.exists()
        scratch.close()
    finally:
        living.kill()
        living.wait()


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    scratch = Scratch(tmp_path)
    shutil.rmtree(scratch.path)
    (scratch.uploads / "photo.jpg").write_bytes(b"x")
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    other = Scratch(tmp_path)  # which must not take it for a leftover
    assert scratch.path.exists()
    other.close()
    scratch.close()
    assert not scratch.path.exists()


def test_old_uploads_go_and_new_ones_stay(tmp_path):
    scratch = Scratch(tmp_path)
    old, new = scratch.uploads / "a" / "old", scratch.uploads / "b" / "new"
    for path in (old, new):
        path.parent.mkdir()
        path.write_bytes(b"x")
    past = time.time() - 7200
    os.utime(old, (past, past))
    os.utime(old.parent, (past, past))
    scratch.sweep()
    assert not old.parent.exists()
    assert new.exists()
    scratch.close()


def test_where_nothing_can_be_written_a_sentence_says_what_to_set(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(DemoError, match="Set RTDETR_DATA_DIR"):
        Scratch(file / "folder")


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    scratch = Scratch(tmp_path)
    scratch.check_room(1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    with pytest.raises(DiskFull, match="disk of this server is full"):
        scratch.check_room()
    scratch.close()
