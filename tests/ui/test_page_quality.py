"""What a front-end engineer would measure: access, layout shift, weight, and looks."""

import io
import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.support.app import App
from tests.support.paths import EXAMPLES, REPO
from tests.support.visitor import SIZES, Visitor

AXE = REPO / "tests/js/node_modules/axe-core/axe.min.js"
SNAPSHOTS = Path(__file__).parent / "snapshots"
MAX_SHIFT = 0.02
MAX_BYTES = 250_000
MAX_REQUESTS = 20

WATCH_SHIFTS = """
  window.shift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
  }).observe({type: "layout-shift", buffered: true});
"""


def violations(visitor: Visitor) -> list[str]:
    """What axe has to say of the page as it stands, one line a rule."""
    found = visitor.page.evaluate(
        """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a",
             "wcag21aa", "wcag22aa", "best-practice"], iframes: false})).violations
           .map((v) => `${v.id}: ${v.nodes.map((n) => n.target.flat().join(" ")).slice(0, 4)}`)"""
    )
    # Gradio's frame round the page is not ours.
    return [line for line in found if "rt-" in line or "#view" in line]


MARKS = {
    ("desk", "light"): (), ("phone", "dark"): (),
    ("tablet", "light"): pytest.mark.load, ("wide", "dark"): pytest.mark.load,
}  # fmt: skip
"""Each size once, in alternating schemes; the other half is slow."""


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: run tests/js/run.sh once")
@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(*one, marks=MARKS.get(one, pytest.mark.slow))
        for one in itertools.product(SIZES, ("light", "dark"))
    ],
)
def test_axe_finds_nothing_on_any_view(browser: Browser, bundled_app: App, size: str, scheme: str):
    visitor = Visitor(browser, bundled_app.url, size, color_scheme=scheme)
    page = visitor.page
    page.evaluate(AXE.read_text())
    trouble = {"first visit": violations(visitor)}
    page.locator("rt-detections tr[data-key]").first.click()
    page.locator("rt-ladder .compare input").check()
    trouble["a chosen detection, two depths"] = violations(visitor)
    for tab in page.locator("rt-views [role=tab]").all()[1:]:
        tab.click()
        page.wait_for_timeout(500)
        trouble[f"view {tab.inner_text()}"] = violations(visitor)
    for opener, dialog in [(".pill", "rt-checkpoint-sheet"), (".add", "rt-add-picture")]:
        page.locator(opener).click()
        page.locator(f"{dialog} dialog[open]").wait_for()
        trouble[dialog] = violations(visitor)
        page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert {where: found for where, found in trouble.items() if found} == {}
    visitor.close()


@pytest.mark.parametrize(
    "size",
    ["desk", "phone", *(pytest.param(one, marks=pytest.mark.slow) for one in ("tablet", "wide"))],
)
def test_a_first_load_is_light_and_nothing_jumps(browser: Browser, bundled_app: App, size: str):
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    context.add_init_script(WATCH_SHIFTS)
    page = context.new_page()
    ours: list[tuple[str, int]] = []

    def note(request) -> None:
        if "/page/" in request.url:
            ours.append((request.url.split("/page/")[1], request.sizes()["responseBodySize"]))

    page.on("requestfinished", note)
    page.goto(bundled_app.url)
    page.wait_for_selector("rt-detections tr[data-key]")
    page.wait_for_function("() => document.fonts.status === 'loaded'")
    page.locator("rt-ladder .play").get_by_text("play").wait_for()
    page.locator("rt-filmstrip button").nth(2).click()
    page.locator("rt-filmstrip button[aria-pressed=true]").nth(0).wait_for()
    page.wait_for_timeout(500)
    shift = page.evaluate("window.shift")
    first = [one for one in ours if "cat." not in one[0]]
    total = sum(size for _, size in first)
    print(
        f"{width} px: layout shift {shift:.4f}; first load {len(first)} requests, "
        f"{total / 1000:.0f} kB"
    )
    assert shift < MAX_SHIFT
    assert len(first) <= MAX_REQUESTS, sorted(first)
    assert total < MAX_BYTES, sorted(first, key=lambda one: -one[1])
    context.close()


def scene(width: int, height: int, count: int) -> str:
    """Predictions for an example, made up: no weights have a say in what a snapshot shows.

    `count` boxes of three classes stand in rows; each layer is a little surer of them.
    """
    columns = math.ceil(math.sqrt(2 * count))
    side = width / columns
    boxes: list[float] = []
    for i in range(count):
        x, y = side * (i % columns + 0.1), height / 3 + side * (i // columns)
        boxes += [x, y, x + 0.7 * side, y + 0.8 * side]
    layers = [
        {
            "scores": [0.6 + 0.04 * layer - 0.25 * i / count for i in range(count)],
            "labels": [i % 3 for i in range(count)],
            "queries": list(range(count)),
            "boxes": boxes,
        }
        for layer in range(1, 7)
    ]
    colors = {"cow": "#f0604c", "person": "#1dede3", "car": "#aef471"}
    return json.dumps(
        {
            "checkpoint": "bundled",
            "classes": list(colors),
            "width": width,
            "height": height,
            "layers": layers,
            "colors": {name: [color, "#000000"] for name, color in colors.items()},
        }
    )


@pytest.mark.parametrize(
    ("name", "size", "example", "count", "scheme"),
    [
        ("first-visit", "desk", "sheep", 4, "light"),
        ("crowded", "desk", "musicians", 60, "dark"),
        ("phone", "phone", "sheep", 4, "light"),
    ],
)
def test_it_looks_as_it_did(
    browser: Browser,
    bundled_app: App,
    name: str,
    size: str,
    example: str,
    count: int,
    scheme: str,
):
    """Compared after a blur: another version of the browser may draw a letter differently.

    `RTDETR_NEW_SNAPSHOTS=1` keeps what is seen now as what is expected.
    """
    with Image.open(EXAMPLES / f"{example}.jpg") as picture:
        made_up = scene(*picture.size, count)
    visitor = Visitor(browser, "", size, color_scheme=scheme)
    visitor.page.route(
        f"**/examples/{example}.json",
        lambda route: route.fulfill(body=made_up, content_type="application/json"),
    )
    visitor.open(f"{bundled_app.url}?example={example}.jpg&layers=3&threshold=0.3")
    visitor.wait_for("s.result && !s.busy && s.status && s.depth === 3")
    assert len(visitor.boxes()) == count
    visitor.wait_for_boxes()
    visitor.page.wait_for_function("() => document.fonts.status === 'loaded'")
    # What was measured, here and now or of the weights, is not a matter of looks.
    visitor.page.locator("rt-ladder").evaluate(
        "e => e.querySelectorAll('.big, .facts, .where, .segments, .scale, .worth, .handle')"
        ".forEach(one => one.style.visibility = 'hidden')"
    )
    seen = Image.open(io.BytesIO(visitor.page.screenshot(animations="disabled"))).convert("RGB")
    visitor.close()
    path = SNAPSHOTS / f"{name}.webp"
    if os.environ.get("RTDETR_NEW_SNAPSHOTS"):
        SNAPSHOTS.mkdir(exist_ok=True)
        seen.save(path, quality=60, method=6)
    with Image.open(path) as kept:
        assert kept.size == seen.size
        small = (seen.width // 16, seen.height // 16)
        now, before = (
            np.asarray(one.convert("RGB").resize(small, Image.Resampling.BOX), dtype=float)
            for one in (seen, kept)
        )
    off = np.abs(now - before).max(axis=2)
    share = float((off > 24).mean())
    print(f"{name}: {100 * share:.1f} % of the picture differs")
    assert share < 0.06
