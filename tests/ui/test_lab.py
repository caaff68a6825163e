"""The speed lab: measures on the visitor's machine, draws, and sets the whole page."""

import csv
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.serving.test_service import Caller, check_refusal
from tests.support.app import App
from tests.support.visitor import Visitor
from tests.ui.test_live import Spectator


@pytest.fixture(params=["desk", "phone"])
def visitor(request: pytest.FixtureRequest, browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url, request.param)
    yield visitor
    visitor.close()


def open_lab(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="Speed lab").click()
    visitor.page.wait_for_selector(".rt-lab .rt-measure")


def measure(visitor: Visitor) -> None:
    open_lab(visitor)
    visitor.page.select_option(".rt-lab-rounds", "5")
    visitor.page.click(".rt-measure")
    expect(visitor.page.locator(".rt-lab-report")).to_be_visible(timeout=120_000)


def test_it_measures_and_draws_every_knob(visitor: Visitor):
    measure(visitor)
    page = visitor.page
    assert page.locator(".rt-plot-layers .point").count() == 6
    assert page.locator(".rt-plot-queries .point").count() == 2
    assert page.locator(".rt-plot-size .point").count() == 1  # 128, as 160 is its own
    assert page.locator(".rt-plot-pareto .point").count() == (
        page.locator(".rt-charts .point").count() / 2
    )
    expect(page.locator(".rt-stage-legend span")).to_have_count(10)
    expect(page.locator(".rt-lab-conditions")).to_contain_text("5 rounds")
    expect(page.locator(".rt-reference")).to_contain_text("not measured here")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_point_sets_the_whole_page(browser: Browser, app: App):
    spectator = Spectator(browser, app.url)
    asked: list[dict] = []
    spectator.page.on(
        "request",
        lambda r: asked.append(r.post_data_json) if "component_server" in r.url else None,
    )
    measure(spectator)
    spectator.page.locator(".rt-plot-layers .point").nth(1).click()
    spectator.page.get_by_role("button", name="Use these settings").click()
    assert spectator.page.input_value("#decoder-layers") == "2"
    assert spectator.page.input_value("#live-decoder-layers") == "2"
    spectator.page.get_by_role("tab", name="Video").click()  # opened for the first time
    expect(spectator.page.locator("#video-decoder-layers")).to_have_value("2")
    open_lab(spectator)
    spectator.page.locator(".rt-plot-size .point").first.focus()
    spectator.page.keyboard.press("Enter")
    size = int(re.findall(r"size (\d+)", spectator.page.inner_text(".rt-picked-text"))[0])
    spectator.page.get_by_role("button", name="Use these settings").click()

    spectator.page.get_by_role("tab", name="Photo").click()
    expect(spectator.page.locator(".rt-photo .rt-shape")).to_contain_text(f"input {size} px")
    spectator.page.locator(".rt-examples button").first.click()
    spectator.wait_for_boxes()
    assert [one for one in asked if one["fn_name"] == "detect"][-1]["data"]["size"] == size

    spectator.page.get_by_role("tab", name="Live").click()
    spectator.start()
    spectator.wait_for_frames(2)
    assert (spectator.sent[-1]["size"], spectator.sent[-1]["decoder_layers"]) == (size, 6)
    spectator.page.locator(".rt-live .rt-shape").get_by_role("button", name="Reset").click()
    spectator.wait_for_frames(2)
    assert spectator.sent[-1]["size"] is None
    spectator.close()


def test_the_downloads_hold_what_the_charts_show(browser: Browser, app: App, tmp_path: Path):
    visitor = Visitor(browser, app.url)
    measure(visitor)
    with visitor.page.expect_download() as table:
        visitor.page.click(".rt-lab-csv")
    rows = list(csv.DictReader(table.value.path().open()))
    depths = [row for row in rows if row["knob"] == "layers"]
    shown = visitor.page.locator(".rt-plot-layers .point title").all_text_contents()
    assert len(depths) == len(shown) == 6
    for row, text in zip(depths, shown, strict=True):
        assert f"{row['contender']}: {float(row['median_ms']):.1f} ms" in text
    with visitor.page.expect_download() as picture:
        visitor.page.click(".rt-lab-png")
    with Image.open(picture.value.path()) as image:
        assert image.width > 2000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    visitor.close()


def test_cancel_stops_the_measurement(browser: Browser, app: App):
    visitor = Visitor(browser, app.url)
    open_lab(visitor)
    visitor.page.select_option(".rt-lab-rounds", "30")
    visitor.page.click(".rt-measure")
    expect(visitor.page.locator(".rt-lab-told")).to_contain_text("iming", timeout=30_000)
    began = time.monotonic()
    visitor.page.click(".rt-lab-cancel")
    expect(visitor.page.locator(".rt-lab-problem")).to_have_text("The measurement was cancelled.")
    assert time.monotonic() - began < 5
    expect(visitor.page.locator(".rt-measure")).to_be_enabled()
    visitor.close()


def test_two_checkpoints_stand_side_by_side(browser: Browser, app: App):
    visitor = Visitor(browser, app.url)
    open_lab(visitor)
    visitor.page.select_option(".rt-side-1", "bundled")
    visitor.page.click(".rt-compare")
    table = visitor.page.locator(".rt-versus-table")
    expect(table).to_contain_text("bundled", timeout=60_000)
    expect(table).to_contain_text(app.checkpoint)
    expect(table).to_contain_text("Found by both")
    stage = visitor.page.locator(".rt-versus-stage")
    expect(stage.locator(".front .detection").first).to_be_attached()
    expect(stage.locator(".back .detection").first).to_be_attached()
    before = stage.locator(".back .detection").count()
    visitor.slide("lab-threshold", 0.9)
    assert stage.locator(".back .detection").count() < before
    visitor.page.select_option(".rt-side-1", "")
    visitor.page.click(".rt-compare")
    expect(visitor.page.locator(".rt-versus-problem")).to_contain_text("same checkpoint")
    visitor.close()


@pytest.fixture(scope="module")
def call(app: App) -> Caller:
    return Caller(app, "lab")


@pytest.mark.parametrize(
    ("function", "data"),
    [
        ("start", None), ("start", {"rounds": 10_000}), ("start", {"rounds": 0}),
        ("start", {"threshold": 2}), ("start", {"checkpoint": "owner/unlisted"}),
        ("start", {"result": "nope"}), ("start", {"example": "../../app.py"}),
        ("start", {"more": 1}), ("state", {"id": "nope"}), ("state", {}), ("cancel", {"id": 5}),
        ("compare", {"checkpoints": ["bundled"]}), ("compare", {"checkpoints": ["", "", ""]}),
        ("compare", {"checkpoints": ["bundled", "owner/unlisted"]}), ("compare", {}),
        ("compare", {"checkpoints": ["bundled", ""], "example": "none.jpg"}),
    ],
)  # fmt: skip
def test_every_hostile_request_is_a_sentence(call: Caller, function, data):
    check_refusal(call(function, data))


def test_one_measurement_at_a_time(call: Caller):
    first = call("start", {"rounds": 100})
    assert "id" in first
    check_refusal(call("start", {"rounds": 3}))
    call("cancel", {"id": first["id"]})
    for _ in range(100):
        if "error" in call("state", {"id": first["id"]}):
            break
        time.sleep(0.1)
    assert "cancelled" in call("state", {"id": first["id"]})["error"]
