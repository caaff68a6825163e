"""The API view: what it shows to copy must work when it is pasted."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.app import App
from tests.support.node import NODE_MODULES, node
from tests.support.paths import EXAMPLES
from tests.support.standin import PictureHost, QuietHandler
from tests.support.visitor import Visitor

KINDS = ["curl", "Python", "JavaScript"]


@pytest.fixture(params=["desk", "phone"])
def visitor(request: pytest.FixtureRequest, browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url, request.param)
    yield visitor
    visitor.close()


@pytest.fixture
def dispatcher(browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url, permissions=["clipboard-read", "clipboard-write"])
    yield visitor
    visitor.close()


def open_view(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="API", exact=True).click()
    expect(visitor.page.locator("rt-api code")).to_contain_text("curl")


def copied(visitor: Visitor, kind: str) -> str:
    """The text of one client, as the Copy button gives it."""
    visitor.page.get_by_role("tab", name=kind, exact=True).click()
    visitor.page.evaluate("navigator.clipboard.writeText('')")
    # Watched in the page itself: it says so for 1.5 s, which may be over before we look.
    visitor.page.locator("rt-api .copy").evaluate(
        """button => new Promise((said) => {
            const look = () =>
                button.textContent === "Copied" ? said() : requestAnimationFrame(look);
            button.click();
            look();
        })"""
    )
    visitor.page.wait_for_function("navigator.clipboard.readText()")
    return visitor.page.evaluate("navigator.clipboard.readText()")


def run(kind: str, text: str, folder: Path) -> list[str]:
    """Run it as a visitor would, in the picture's folder; gives the labels that it tells."""
    if kind == "curl" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    if kind == "JavaScript" and not (NODE_MODULES / "openai").is_dir():
        pytest.skip("npm's openai is not installed: tests/run.sh does that")
    if kind == "JavaScript":
        (folder / "node_modules").symlink_to(NODE_MODULES)
    (folder / "ask.py").write_text(text)
    (folder / "ask.mjs").write_text(text)
    command = {
        "curl": ["bash", "-c", text],
        "Python": [sys.executable, "ask.py"],
        "JavaScript": [*node(), "ask.mjs"],
    }[kind]
    environ = {name: value for name, value in os.environ.items() if name != "RTDETR_API_KEY"}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environ)
    assert ran.returncode == 0, ran.stderr
    if kind == "curl":
        return [one["label"] for one in json.loads(ran.stdout)["detections"]]
    return [label_of(line) for line in ran.stdout.splitlines() if line and line[0] not in " }"]


def label_of(line: str) -> str:
    return line.split(" 0.")[0]


def test_an_uploaded_picture(dispatcher: Visitor, tmp_path: Path):
    picture = tmp_path / "my dogs, 'n more.jpg"
    picture.write_bytes((EXAMPLES / "dogs.jpg").read_bytes())
    dispatcher.upload(picture)
    dispatcher.wait_for_boxes()
    dispatcher.slide("depth", 3)
    dispatcher.slide("threshold", 0.45)
    dispatcher.page.locator("rt-confidence [data-label]").first.click()
    shown = [label for label, _ in dispatcher.boxes()]
    open_view(dispatcher)
    assert shown
    for kind in KINDS:
        assert sorted(run(kind, copied(dispatcher, kind), tmp_path)) == sorted(shown), kind


def test_a_picture_by_address(dispatcher: Visitor, tmp_path: Path):
    def photo(request: QuietHandler) -> None:
        content = (EXAMPLES / "dogs.jpg").read_bytes()
        request.reply(200, content, Content_Type="image/jpeg")

    with PictureHost({"/it's.jpg?a=1&b=%22": photo}) as host:
        dispatcher.page.locator("rt-stage .add").click()
        dispatcher.page.fill("rt-add-picture input[type=url]", f"{host.url}/it's.jpg?a=1&b=%22")
        dispatcher.page.press("rt-add-picture input[type=url]", "Enter")
        dispatcher.wait_for("s.result?.source?.url && !s.busy")
        shown = [label for label, _ in dispatcher.boxes()]
        open_view(dispatcher)
        assert shown
        assert "it" in dispatcher.page.locator("rt-api .subject").inner_text()
        for kind in KINDS:
            assert sorted(run(kind, copied(dispatcher, kind), tmp_path)) == sorted(shown), kind


def test_it_reads_the_result_and_not_the_controls(dispatcher: Visitor):
    open_view(dispatcher)
    code = dispatcher.page.locator("rt-api code")
    dispatcher.page.click('[data-example="cat.jpg"]')
    dispatcher.wait_for("s.result.source.example === 'cat.jpg' && !s.busy")
    dispatcher.slide("depth", 2)
    expect(code).to_contain_text("cat.jpg")
    expect(code).to_contain_text("decoder_layers=2")
    dispatcher.page.get_by_role("tab", name="Assistants").click()
    address = json.loads(code.inner_text())["mcpServers"]["rtdetr"]["url"]
    assert address.endswith("/gradio_api/mcp/")


def test_it_fits(visitor: Visitor):
    open_view(visitor)
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    expect(visitor.page.locator("rt-api .access")).to_contain_text("No key needed")
    assert (
        visitor.page.get_by_role("link", name="API reference")
        .get_attribute("href")
        .endswith("/docs")
    )
