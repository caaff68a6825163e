"""Fixtures: small random models, a stand-in for the hub, and the app as a stranger would run it."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from rtdetr_demo.imports import quick_imports
from tests.support.app import App
from tests.support.browser import camera_clip, launch
from tests.support.paths import EXAMPLES
from tests.support.standin import HubStandIn


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--phase",
        choices=["together", "alone"],
        help="only tests that may run beside others, or only those marked `alone`",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # The test modules import all that the demo does.
    with quick_imports():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if phase := config.getoption("phase"):
        alone = phase == "alone"
        others = [one for one in items if bool(one.get_closest_marker("alone")) != alone]
        config.hook.pytest_deselected(items=others)
        items[:] = [one for one in items if bool(one.get_closest_marker("alone")) == alone]


def pytest_configure(config: pytest.Config) -> None:
    """Every session has a home and a folder for temporary files of its own, both new.

    What an earlier run left there can hide that the app needs it.
    """
    if os.environ.get("PYTEST_XDIST_WORKER") or config.getoption("numprocesses", None) in (None, 0):
        # The packages that an app imports would fill its log with their own warnings.
        os.environ.pop("PYTHONWARNDEFAULTENCODING", None)
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the session that started this one has set them
    root = Path(tempfile.mkdtemp(prefix="rtdetr-tests-")).resolve()
    # After multiprocessing has removed what it keeps there, for which its priority is -100.
    Finalize(None, shutil.rmtree, (root, True), exitpriority=-200)
    for variable in ("HOME", "TMPDIR"):
        (root / variable.lower()).mkdir()
        os.environ[variable] = str(root / variable.lower())
    for variable in ("GRADIO_TEMP_DIR", "HF_HOME", "XDG_CACHE_HOME", "RTDETR_DATA_DIR"):
        os.environ.pop(variable, None)
    tempfile.tempdir = None


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small RT-DETR: six decoder layers, 300 queries, random weights."""
    from tests.support.models import random_model, save, small

    model = random_model(**small())
    return save(model, tmp_path_factory.mktemp("tiny"), 160)


@pytest.fixture(scope="session")
def random_r50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an RT-DETR R50 of the published architecture, random weights."""
    from tests.support.models import random_model, save

    return save(random_model(num_labels=80), tmp_path_factory.mktemp("r50"), 640)


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    return Image.open(sorted(EXAMPLES.glob("*.jpg"))[0]).convert("RGB")


@pytest.fixture
def noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A stand-in hub with one model, `owner/tiny`; this process asks it, with an empty cache."""
    with HubStandIn({"owner/tiny": tiny}) as server:
        # What HF_ENDPOINT and HF_HUB_CACHE would have set, had this process begun with them.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


@pytest.fixture(scope="session")
def app(tiny: Path) -> Iterator[App]:
    """The app on the small model, with the loopback address open to picture URLs."""
    running = App("--checkpoint", str(tiny), "--allowed-hosts", "127.0.0.1", HF_HUB_OFFLINE="1")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def bundled_app() -> Iterator[App]:
    """The app on the checkpoint that ships with it, as on a machine without a hub."""
    running = App("--checkpoint", "bundled", HF_HUB_OFFLINE="1")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose camera shows people."""
    with sync_playwright() as playwright:
        browser = launch(playwright, camera_clip(tmp_path_factory.mktemp("camera")))
        yield browser
        browser.close()
