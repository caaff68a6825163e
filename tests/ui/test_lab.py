"""The speed lab: opens with what is known, measures the rest, and sets the page."""

import csv
import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.support.app import App
from tests.support.caller import Caller, check_refusal
from tests.support.visitor import Visitor


def opened(browser: Browser, app: App, size: str = "desk") -> Visitor:
    """A visitor in the lab, once the depths have been timed."""
    visitor = Visitor(browser, app.url, size)
    visitor.page.get_by_role("tab", name="Speed lab").click()
    visitor.wait_for(
        "s.status?.latency && s.result.settings.checkpoint === s.status.checkpoint", 90
    )
    expect(visitor.page.locator("rt-lab tbody").first.locator("tr")).to_have_count(6)
    return visitor


def measure(visitor: Visitor) -> None:
    visitor.page.select_option("rt-lab .rounds", "5")
    visitor.page.click("rt-lab .measure")
    expect(visitor.page.locator("rt-lab .conditions")).to_contain_text("5 rounds", timeout=120_000)


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_it_opens_with_what_is_measured_measures_the_rest_and_sets_the_page(
    browser: Browser, app: App, size
):
    visitor = opened(browser, app, size)
    page = visitor.page
    expect(page.locator("rt-lab .pareto svg").first).to_be_visible()
    expect(page.locator("rt-lab .published")).to_contain_text("not measured here")
    measure(visitor)
    rows = page.locator("rt-lab .table tbody tr")
    assert rows.count() == 6 + 2 + 1  # depths, fewer queries, 128 pixels
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rows.nth(1).hover()
    expect(page.locator("rt-lab .preview-name")).to_contain_text("2 of 6 layers")
    # A setting is used by the whole page.
    page.get_by_role("button", name="Use 2 of 6 layers").click()
    visitor.wait_for("s.depth === 2")
    page.get_by_role("button", name="Use size 128").click()
    visitor.wait_for("s.size === 128 && s.result.settings.size === 128 && s.depth === 6")
    visitor.close()


def test_the_downloads_hold_what_is_shown(browser: Browser, app: App):
    visitor = opened(browser, app)
    with visitor.page.expect_download() as table:
        visitor.page.click("rt-lab .csv")
    rows = list(csv.DictReader(Path(table.value.path()).read_text(encoding="utf-8").splitlines()))
    assert table.value.suggested_filename.endswith("-speed.csv")
    conditions = {row["contender"]: row["value"] for row in rows if row["knob"] == "condition"}
    assert conditions["picture"].endswith(".jpg")
    assert {"processor", "torch", "transformers", "rtdetr-demo"} <= set(conditions)
    assert {row["contender"] for row in rows if row["knob"] == "legend"} >= {"ms", "agreement"}
    depths = [row for row in rows if row["knob"] == "layers"]
    shown = visitor.page.locator("rt-lab .table tbody tr td:nth-child(2)").all_inner_texts()
    assert [f"{float(row['ms']):.1f}" for row in depths] == [text.split()[0] for text in shown]
    with visitor.page.expect_download() as picture:
        visitor.page.click("rt-lab .png")
    with Image.open(picture.value.path()) as image:
        assert image.width == 1280
        assert image.height > 1000  # the picture, the chart, the legend and the lines below it
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    visitor.close()


def test_cancel_stops_the_measurement(browser: Browser, app: App):
    visitor = opened(browser, app)
    visitor.page.select_option("rt-lab .rounds", "30")
    visitor.page.click("rt-lab .measure")
    expect(visitor.page.locator("rt-lab .told")).to_contain_text("iming", timeout=30_000)
    visitor.page.click("rt-lab .cancel")
    problem = visitor.page.locator("rt-lab .lab-problem")
    expect(problem).to_have_text("The measurement was cancelled.", timeout=15_000)
    expect(visitor.page.locator("rt-lab .measure")).to_be_enabled()
    visitor.close()


def test_two_checkpoints_stand_side_by_side(browser: Browser, app: App):
    visitor = opened(browser, app)
    page = visitor.page
    page.select_option("rt-versus .side-1", "bundled")
    page.click("rt-versus .compare")
    table = page.locator("rt-versus table")
    expect(table).to_contain_text(app.checkpoint, timeout=60_000)
    expect(table).to_contain_text("In both")
    drawn = "v => [v.boxes.scene.detections.length, v.boxes.scene.compared.length]"
    with page.expect_download() as picture:
        page.click("rt-versus .save")
    assert picture.value.suggested_filename.endswith("-comparison.png")
    with Image.open(picture.value.path()) as image:
        assert image.width == 1280
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    before = page.locator("rt-versus").evaluate(drawn)
    visitor.slide("threshold", 0.9)
    assert sum(page.locator("rt-versus").evaluate(drawn)) < sum(before)
    page.select_option("rt-versus .side-1", "")
    page.click("rt-versus .compare")
    expect(page.locator("rt-versus .problem")).to_contain_text("same checkpoint")
    visitor.close()


@pytest.fixture(scope="module")
def call(app: App) -> Caller:
    return Caller(app.url)


@pytest.mark.parametrize(
    ("function", "data"),
    [
        ("measure", None), ("measure", {"rounds": 10_000}), ("measure", {"rounds": 0}),
        ("measure", {"threshold": 2}), ("measure", {"checkpoint": "owner/unlisted"}),
        ("measure", {"result": "nope"}), ("measure", {"example": "../../app.py"}),
        ("measure", {"more": 1}), ("measured", {"id": "nope"}), ("measured", {}),
        ("cancel_measure", {"id": 5}),
        ("compare", {"checkpoints": ["bundled"]}), ("compare", {"checkpoints": ["", "", ""]}),
        ("compare", {"checkpoints": ["bundled", "owner/unlisted"]}), ("compare", {}),
        ("compare", {"checkpoints": ["bundled", ""], "example": "none.jpg"}),
    ],
)  # fmt: skip
def test_every_hostile_request_is_a_sentence(call: Caller, function, data):
    check_refusal(call(function, data))


def test_one_measurement_at_a_time(call: Caller):
    first = call("measure", {"rounds": 100, "example": "dogs.jpg"})
    assert "id" in first
    check_refusal(call("measure", {"rounds": 3, "example": "dogs.jpg"}))
    call("cancel_measure", {"id": first["id"]})
    for _ in range(100):
        if "error" in call("measured", {"id": first["id"]}):
            break
        time.sleep(0.1)
    assert "cancelled" in call("measured", {"id": first["id"]})["error"]
