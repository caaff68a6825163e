"""The page without a server: a static host, then no network at all."""

import contextlib
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from rtdetr_demo.__main__ import main
from tests.support.app import free_port
from tests.support.paths import EXAMPLES
from tests.support.standin import LocalServer
from tests.support.visitor import Visitor


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's root, with the site in a sub-path of it."""
    root = tmp_path_factory.mktemp("host")
    assert main(["static", str(root / "some" / "where")]) == 0
    return root


class StaticHost:
    """`python -m http.server` on a folder, until it is stopped."""

    def __init__(self, root: Path):
        self.port = free_port()
        self.root = root
        self.start()
        self.url = f"http://127.0.0.1:{self.port}/some/where/"

    def start(self) -> None:
        command = [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(
            command, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{self.port}/")
                return
        raise AssertionError("http.server did not start")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture
def host(site: Path) -> Iterator[StaticHost]:
    running = StaticHost(site)
    yield running
    running.stop()


def download(visitor: Visitor) -> None:
    visitor.page.locator("rt-runtime .get").click()
    visitor.wait_for("s.status?.here && !s.status.download?.running", 60)


@pytest.mark.slow
def test_once_loaded_it_detects_with_no_network(browser: Browser, host: StaticHost) -> None:
    visitor = Visitor(browser, host.url, permissions=["camera"])
    page = visitor.page
    # Before anything has been downloaded, the example shows what it was shipped with.
    visitor.wait_for_boxes()
    expect(page.locator("rt-runtime .words")).to_have_text(
        re.compile(r"one-time download of 1[5-7]\.\d MB")
    )
    download(visitor)
    visitor.wait_for("s.result?.settings.runtime.startsWith('this device') && !s.busy", 60)
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    host.stop()

    # The network is gone.
    visitor.upload(EXAMPLES / "cat.jpg")
    assert visitor.state("s.problem") == ""
    assert ("cat" in [label for label, _ in visitor.boxes()]) is True
    at_full_depth = visitor.boxes()
    visitor.slide("depth", 1)
    assert visitor.boxes() != at_full_depth
    with page.expect_download() as saved:
        page.locator('rt-export [data-form="json"]').click()
    content = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert content["decoder_layers"] == 1
    assert "this device" in content["settings"]["runtime"]
    with page.expect_download() as saved:
        page.locator('rt-export [data-form="png"]').click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")

    def film() -> None:
        page.get_by_role("button", name="Start camera").click()
        person = "(s.result.predictions.classes[k] === 'person' && layer.scores[i] > 0.3)"
        layer = "s.result.predictions.layers[0]"
        visitor.wait_for(
            "s.result?.title === 'camera' && s.result.settings.own"
            f" && (layer => layer.labels.some((k, i) => {person}))({layer})",
            60,
        )

    page.get_by_role("tab", name="Camera").click()
    film()

    # A new visit, still without one, by the address of the camera: nothing is fetched, threads are
    # there, and the camera waits for its visitor.
    page.wait_for_url("**source=camera**")
    page.reload()
    visitor.wait_for("s.status?.here", 60)
    film()
    assert "threads" in visitor.state("s.result.settings.runtime")

    # So does the photo that it stood before.
    page.get_by_role("tab", name="Photo").click()
    visitor.wait_for("s.result?.picture && s.result.settings.own", 60)
    visitor.trouble = [one for one in visitor.trouble if "ERR_CONNECTION_REFUSED" not in one]
    visitor.close()


class Cutter(SimpleHTTPRequestHandler):
    """Closes the connection in the middle of a file whose name begins with `cut`."""

    cut = ""
    asked: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        content = source.read()
        is_cut = self.cut and name.startswith(self.cut)
        outputfile.write(content[: len(content) // 2] if is_cut else content)


@pytest.mark.load
def test_a_download_that_is_cut_says_so_and_goes_on_with_the_next_try(
    browser: Browser, site: Path
) -> None:
    class Handler(Cutter):
        cut = "encoder-"
        asked: list[str] = []  # noqa: RUF012 - of this test

    with LocalServer(functools.partial(Handler, directory=str(site))) as server:
        visitor = Visitor(browser, f"{server.url}/some/where/")
        runtime = visitor.page.locator("rt-runtime")
        runtime.locator(".get").click()
        words = runtime.locator(".words")
        expect(words).to_contain_text("The download was interrupted.", timeout=30_000)
        assert sum(name.endswith(".wasm.gz") for name in Handler.asked) == 1
        Handler.cut = ""
        runtime.get_by_role("button", name="Try again").click()
        visitor.wait_for("s.status?.here && !s.status.download?.running", 60)
        visitor.wait_for("s.result?.settings.own && !s.busy", 60)
        assert sum(name.endswith(".wasm.gz") for name in Handler.asked) == 1, "it was kept"
        visitor.trouble = [one for one in visitor.trouble if "CONTENT_LENGTH" not in one]
        visitor.close()


def test_the_site_says_what_it_needs_of_a_host(site: Path) -> None:
    folder = site / "some" / "where"
    head = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: static" in head
    assert "cross-origin-embedder-policy" in head
    assert all(file.stat().st_size < 10 * 2**20 for file in folder.rglob("*") if file.is_file())
    assert "page/" in (folder / "index.html").read_text()
    assert not re.search(r'(src|href)="/', (folder / "index.html").read_text())


def test_a_folder_that_holds_something_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    assert main(["static", str(tmp_path)]) == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["letter.txt"]
