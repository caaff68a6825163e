"""The repository as a Space takes it."""

import re
import subprocess

import pytest
import yaml

from rtdetr_demo.checkpoints.files import CONFIGS
from rtdetr_demo.settings import Settings
from tests.support.paths import REPO

MEBIBYTE = 2**20


def front_matter() -> dict:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---")[1])


def test_no_tracked_file_is_larger_than_the_hub_takes():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=False, text=True
    )
    if listed.returncode:
        pytest.skip("this is no Git checkout")
    files = [REPO / name for name in listed.stdout.split("\0") if name]
    large = [one.name for one in files if one.is_file() and one.stat().st_size > 10 * MEBIBYTE]
    assert large == []


def test_the_front_matter_is_what_a_free_account_can_use():
    matter = front_matter()
    assert (matter["sdk"], matter["app_file"]) == ("gradio", "app.py")
    assert str(matter["python_version"]) == "3.12"
    assert matter["suggested_hardware"] == "zero-a10g"
    [preloaded] = matter["preload_from_hub"]
    checkpoint, files = preloaded.split(" ")
    assert checkpoint == Settings().checkpoint
    assert files.split(",") == [*CONFIGS, "model.safetensors"]
    assert matter["license"] == "apache-2.0"
    assert matter["title"]
    assert len(matter["short_description"]) <= 60


def test_the_space_installs_the_version_of_gradio_that_is_tested():
    requirements = (REPO / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^gradio(?:\[\w+\])?==(\S+)", requirements, re.MULTILINE)
    assert pinned
    assert str(front_matter()["sdk_version"]) == pinned[1]
