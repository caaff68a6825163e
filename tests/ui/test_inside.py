"""Inside: why the model found what is chosen, in five panels, on the page as a visitor has it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, expect

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.evaluation.faithfulness import shipped
from tests.support.app import App
from tests.support.paths import EXAMPLES
from tests.support.visitor import Visitor

PANELS = ("born", "refined", "looked", "silenced", "saw")
WAIT = 60_000


@pytest.fixture(params=["desk", "phone"])
def visitor(request: Any, browser: Browser, bundled_app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, bundled_app.url + "?view=inside", request.param)
    visitor.page.wait_for_selector("rt-inside .panels:not([hidden])", timeout=WAIT)
    yield visitor
    visitor.close()


def test_every_panel_draws_says_and_explains(visitor: Visitor):
    page = visitor.page
    for name in PANELS:
        panel = page.locator(f"rt-inside .panel.{name}")
        painted = panel.locator("canvas").first.evaluate(
            """canvas => new Promise((done) => requestAnimationFrame(() => {
              const pen = canvas.getContext("2d");
              const {width, height} = canvas;
              const {data} = pen.getImageData(0, 0, width, height);
              const seen = new Set();
              for (let i = 0; i < data.length; i += 4 * 97)
                seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
              done(seen.size);
            }))"""
        )
        assert painted > 3, name
        expect(panel.locator(".sentence a")).to_have_attribute(
            "href", re.compile(r"2304\.08069v3#S\d")
        )
        panel.locator("summary").click()
        expect(panel.locator("details p")).to_be_visible()
    over = "inside => inside.scrollWidth - inside.clientWidth"
    assert page.locator("rt-inside").evaluate(over) <= 0


def test_it_says_whether_detections_rest_on_what_they_looked_at(visitor: Visitor):
    tested = shipped(BUNDLED_FOLDER)
    told = visitor.page.locator("rt-inside .looked .tested")
    if tested:
        expect(told).to_have_text(tested.sentence())
    else:
        expect(told).to_be_hidden()


def test_the_ladder_is_the_playhead_and_the_film_moves_the_ladder(visitor: Visitor):
    page = visitor.page
    visitor.slide("depth", 2)
    expect(page.locator("rt-inside .time output")).to_have_text("layer 2")
    expect(page.locator("rt-inside .refined tr.now th")).to_have_text("2")
    slider = page.locator("rt-inside .time input")
    slider.focus()
    slider.press("Home")
    expect(page.locator("rt-inside .time output")).to_have_text("proposal")
    assert visitor.state("s.depth") == 1
    slider.press("End")
    assert visitor.state("s.depth") == 6


def test_the_tour_stands_beside_real_controls(visitor: Visitor):
    page = visitor.page
    page.locator("rt-inside .begin").click()
    for step in range(1, 7):
        expect(page.locator("rt-tour .count")).to_have_text(f"{step} of 6")
        expect(page.locator(".toured")).to_be_in_viewport()
        page.keyboard.press("Enter")
    expect(page.locator("rt-tour")).to_have_count(0)
    expect(page.locator(".toured")).to_have_count(0)
    expect(page.locator("rt-inside .begin")).to_be_focused()


def test_another_picture_is_recorded_by_the_server(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url + "?view=inside")
    visitor.upload(EXAMPLES / "dogs.jpg")
    visitor.page.wait_for_selector("rt-inside .panels:not([hidden])", timeout=WAIT)
    chips = visitor.page.locator("rt-inside .chips button")
    name = chips.last.inner_text().split()[0]
    chips.last.click()
    expect(visitor.page.locator("rt-inside .about")).to_contain_text(name, timeout=WAIT)
    visitor.page.locator("rt-inside .heads button").nth(2).click()
    expect(visitor.page.locator("rt-inside .looked .told")).to_contain_text(
        "head 2: 12 sampling points"
    )
    visitor.close()


def test_the_gradio_api_inspects(bundled_app: App):
    client = Client(bundled_app.url, verbose=False)
    photo = handle_file(str(EXAMPLES / "dogs.jpg"))
    found = client.predict(image=photo, rank=2, api_name="/inspect")
    [query] = found["queries"]
    last = found["film"][-1]["scores"]
    assert sorted(last, reverse=True)[1] == last[query["query"]]
    with pytest.raises(Exception, match="from 1 to"):
        client.predict(image=photo, rank=0, api_name="/inspect")
