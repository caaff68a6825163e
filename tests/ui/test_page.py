"""The page in a real browser: the first visit, the picture, the ladder, what is below them."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Response, expect

from tests.support.app import App
from tests.support.clips import make_clip
from tests.support.paths import EXAMPLES
from tests.support.standin import PictureHost
from tests.support.visitor import Visitor

PHOTO = EXAMPLES / "dogs.jpg"


@pytest.fixture(params=["desk", "phone"])
def visitor(request: pytest.FixtureRequest, browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url, request.param)
    yield visitor
    visitor.close()


@pytest.fixture
def at_desk(browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url)
    yield visitor
    visitor.close()


class Shown(Visitor):
    """A visitor whose photograph was detected in; `answer`: what the server said of it."""

    def __init__(self, browser: Browser, url: str, size: str):
        super().__init__(browser, url, size)
        with self.page.expect_response(self._is_detect) as caught:
            self.upload(PHOTO)
        self.answer = caught.value.json()
        self.slide("depth", 6)
        self.wait_for_boxes()
        self.page.locator("rt-app").evaluate("a => { window.begun = a.app.store.get(); }")

    @staticmethod
    def _is_detect(response: Response) -> bool:
        return "component_server" in response.url and '"path"' in (response.request.post_data or "")

    def begin_again(self) -> None:
        """The page's state as it was once the boxes were there; only the state, for speed."""
        self.page.mouse.move(0, 0)
        self.page.locator("rt-app").evaluate(
            "a => { a.app.store.set(window.begun); scrollTo(0, 0); }"
        )


@pytest.fixture(scope="module")
def shown(browser: Browser, app: App) -> Iterator[Callable[[str], Shown]]:
    """One visitor of each size for all tests, at the beginning again for each."""
    visitors: dict[str, Shown] = {}

    def at(size: str) -> Shown:
        if size not in visitors:
            visitors[size] = Shown(browser, app.url, size)
        visitors[size].begin_again()
        return visitors[size]

    yield at
    for visitor in visitors.values():
        visitor.close()


@pytest.fixture
def on_desk(shown: Callable[[str], Shown]) -> Iterator[Shown]:
    visitor = shown("desk")
    yield visitor
    assert visitor.trouble == []


@pytest.fixture(params=["desk", "phone"])
def on_either(request: pytest.FixtureRequest, shown: Callable[[str], Shown]) -> Iterator[Shown]:
    visitor = shown(request.param)
    yield visitor
    assert visitor.trouble == []


def above(answer: dict, layer: int, threshold: float) -> list[float]:
    return [score for score in answer["layers"][layer - 1]["scores"] if score > threshold]


WATCH_DEPTH = """
  window.depths = [];
  const look = () => {
    const host = document.querySelector("#page .html-container > div");
    const page = host?.shadowRoot?.querySelector("rt-app");
    if (page) page.app.store.subscribe(["depth"], (state) => window.depths.push(state.depth));
    else requestAnimationFrame(look);
  };
  look();
"""


def test_a_first_visit_shows_detections_that_no_model_was_waited_for(
    browser: Browser, bundled_app: App
):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(WATCH_DEPTH)
    page = context.new_page()
    asked: list[str] = []
    page.on(
        "request",
        lambda r: asked.append(r.url) if '"example"' in (r.post_data or "") else None,
    )
    page.goto(bundled_app.url)
    page.wait_for_selector("rt-stage")
    assert page.locator("rt-stage").evaluate("s => s.drawn.detections.length") > 0
    for reading in (".big output", ".facts .saved", ".facts .kept", ".facts .worth-ap"):
        text = page.locator(f"rt-ladder {reading}").inner_text()
        assert re.search(r"\w", text), reading
    assert page.locator("rt-app :is(input, select):disabled").count() == 0
    # Once, the depth plays from the first layer to the last.
    page.wait_for_function("() => window.depths.at(-1) === 6 && window.depths.includes(1)")
    page.locator("rt-ladder .play").get_by_text("play").wait_for()
    depths = page.evaluate("window.depths.slice(window.depths.indexOf(1))")
    assert depths == [1, 2, 3, 4, 5, 6], "forward, and once"
    assert asked == []
    context.close()


def test_with_less_motion_it_rests_at_three_layers(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url)
    assert visitor.state("[s.depth, s.playing]") == [3, False]
    visitor.close()


def test_slider_threshold_and_filter_show_what_the_server_sent_without_asking_again(
    on_either: Shown,
):
    answer = on_either.answer
    page = on_either.page
    asked: list[str] = []
    page.on(
        "request",
        lambda r: asked.append(r.url) if '"queries"' in (r.post_data or "") else None,
    )
    for layer in (1, 3, 6, 2):
        for threshold in (0.5, 0.8):
            on_either.slide("depth", layer)
            on_either.slide("threshold", threshold)
            shown = [score for _, score in on_either.boxes()]
            assert shown == above(answer, layer, threshold)
            expect(page.locator("rt-detections tr[data-key]")).to_have_count(len(shown))
    on_either.slide("threshold", 0.3)
    chip = page.locator("rt-confidence [data-label]").first
    label = chip.get_attribute("data-label")
    before = on_either.boxes()
    chip.click()
    after = on_either.boxes()
    assert label in {name for name, _ in before}
    assert after == [box for box in before if box[0] != label]
    page.locator("rt-confidence [data-act=all]").click()
    assert on_either.boxes() == before
    assert asked == []


@pytest.mark.alone
def test_a_redraw_takes_under_two_frames_from_input_to_paint(on_desk: Shown):
    """300 queries x 6 layers, threshold 0, so that all 300 boxes are drawn.

    Held to the bar is what the page's own thread computes for one redraw, as the clock also counts
    whatever else the machine does; the clock's time is printed.
    """
    on_desk.slide("threshold", 0)
    browser = on_desk.context.new_cdp_session(on_desk.page)
    browser.send("Performance.enable", {"timeDomain": "threadTicks"})

    def computed_ms() -> float:
        metrics = browser.send("Performance.getMetrics")["metrics"]
        return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    measure = """async (slider) => {
      const times = [];
      for (let i = 0; i < 12; i++) {
        const began = performance.now();
        slider.value = 1 + (i % 6);
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        // The first task after the next frame begins once that frame has been painted.
        await new Promise((done) => requestAnimationFrame(() => {
          const channel = new MessageChannel();
          channel.port1.onmessage = done;
          channel.port2.postMessage(0);
        }));
        times.push(performance.now() - began);
      }
      return times.sort((a, b) => a - b)[6];
    }"""
    medians, computed = [], []
    for _ in range(4):
        before = computed_ms()
        medians.append(on_desk.page.locator("#depth").evaluate(measure))
        computed.append((computed_ms() - before) / 12)
    assert len(on_desk.boxes()) == 300
    print(
        f"300 boxes: {min(medians):.1f} ms from input to paint (median), of it the page computes "
        f"{min(computed):.1f} ms"
    )
    assert min(computed) < 33


def test_what_a_depth_loses_of_full_depth_is_a_ghost(on_desk: Shown):
    on_desk.slide("depth", 1)
    kept, of = map(int, on_desk.page.locator("rt-ladder .kept").inner_text().split(" of "))
    assert len(on_desk.ghosts()) == of - kept
    on_desk.slide("depth", 6)
    assert on_desk.ghosts() == []


def test_hidden_duplicates_are_counted_in_plain_sight(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url + "?example=musicians.jpg&threshold=0.1")
    visitor.wait_for_boxes()
    toggle = visitor.page.locator("rt-confidence [data-act=duplicates]")
    count = int(toggle.locator("b").inner_text())
    before = len(visitor.boxes())
    toggle.click()
    assert len(visitor.boxes()) == before - count < before
    expect(toggle).to_have_text(f"Duplicates hidden {count}")
    visitor.close()


def test_class_names_are_only_text(on_desk: Shown):
    on_desk.slide("threshold", 0.2)
    # One class of the small model is called "<b>bold</b>": it must not become an element.
    assert "<b>bold</b>" in {label for label, _ in on_desk.boxes()}
    assert on_desk.page.locator("rt-detections b, rt-confidence [data-label] b b").count() == 0


def test_row_and_box_light_each_other(on_desk: Shown):
    on_desk.page.locator("rt-detections tr[data-key]").nth(2).hover()
    third = on_desk.state("s.hovered")
    assert on_desk.page.locator("rt-detections tr.lit").get_attribute("data-key") == third
    on_desk.page.locator("rt-stage .frame").scroll_into_view_if_needed()
    middle = on_desk.page.locator("rt-stage").evaluate(
        """stage => {
          const {scale, left, top} = stage.boxes.layout();
          const one = stage.drawn.detections.at(-1);
          const frame = stage.querySelector(".frame").getBoundingClientRect();
          return [frame.left + left + (one.x + one.width / 2) * scale,
                  frame.top + top + (one.y + one.height / 2) * scale];
        }"""
    )
    on_desk.page.mouse.move(*middle)
    lit = on_desk.state("s.hovered")
    assert lit is not None
    expect(on_desk.page.locator("rt-detections tr.lit")).to_have_attribute("data-key", lit)


def test_a_click_on_a_row_tells_its_life(on_desk: Shown):
    answer = on_desk.answer
    on_desk.page.locator("rt-detections tr[data-key]").first.click()
    rows = on_desk.page.locator("rt-detections .history tbody tr")
    expect(rows).to_have_count(6)
    best = answer["layers"][5]["scores"][0]
    expect(rows.last).to_contain_text(f"{best:.2f}")
    expect(rows.last).to_contain_text("1.00")


def test_the_table_sorts_by_every_column(on_desk: Shown):
    for key in ("label", "score", "x", "y", "width", "height", "area"):
        head = on_desk.page.locator(f"rt-detections th[data-key={key}]")
        for _ in range(2):
            head.locator("button").click()
            direction = head.get_attribute("aria-sort")
            column = head.evaluate("cell => cell.cellIndex")
            cells = on_desk.page.locator(
                f"rt-detections .table tbody tr > :nth-child({column + 1})"
            ).all_inner_texts()
            if key == "label":  # of the small model's names one has signs, which sort first
                values: list = [cell for cell in cells if "bold" not in cell]
            else:
                values = [float(cell.rstrip("%")) for cell in cells]
            assert values == sorted(values, reverse=direction == "descending"), key


def test_keyboard_alone_reaches_ladder_stage_table_and_views(on_desk: Shown):
    page = on_desk.page
    page.locator("#depth").focus()
    page.keyboard.press("ArrowLeft")
    assert on_desk.state("s.depth") == 5
    expect(page.locator("#depth")).to_have_attribute("aria-valuetext", re.compile("^5 of 6 layers"))
    page.locator("rt-stage .frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("rt-stage .frame")).to_have_attribute("aria-label", re.compile("^2 of "))
    page.keyboard.press("Enter")
    assert on_desk.state("s.selected === s.hovered && s.selected !== null")
    page.locator("rt-detections th[data-key=label] button").focus()
    page.keyboard.press("Enter")
    head = page.locator("rt-detections th[data-key=label]")
    assert head.get_attribute("aria-sort") == "ascending"


def test_the_ladder_is_dragged(on_either: Shown):
    track = on_either.page.locator("rt-ladder .track")
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    assert box
    mouse, middle = on_either.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + box["width"] - 2, middle)
    mouse.down()
    mouse.move(box["x"] + 5, middle, steps=4)
    mouse.up()
    assert on_either.state("s.depth") == 1
    assert on_either.page.locator("rt-ladder .cut").count() == 5


def test_two_depths_are_compared_with_a_divider_on_the_picture(on_either: Shown):
    answer = on_either.answer
    page = on_either.page
    page.locator("rt-ladder .compare input").check()
    assert on_either.state("s.compare") == 1
    divider = page.locator("rt-stage .divider")
    divider.scroll_into_view_if_needed()
    box = divider.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=3)
    page.mouse.up()
    assert 0 < on_either.state("s.split") < 0.5
    left = page.locator("rt-stage").evaluate("s => s.boxes.scene.compared.map(one => one.score)")
    assert left == above(answer, 1, on_either.state("s.threshold"))
    page.locator("rt-ladder .compare input").uncheck()
    expect(divider).to_be_hidden()


def test_every_download_holds_what_is_shown(on_either: Shown):
    on_either.slide("depth", 3)
    on_either.slide("threshold", 0.6)
    shown = len(on_either.boxes())
    assert shown

    def download(form: str) -> bytes:
        with on_either.page.expect_download() as caught:
            on_either.page.locator(f"rt-export [data-form={form}]").click()
        return Path(caught.value.path()).read_bytes()

    answer = json.loads(download("json"))
    assert (answer["decoder_layers"], len(answer["detections"])) == (3, shown)
    assert answer["settings"]["threshold"] == 0.6
    assert len(download("csv").splitlines()) == shown + 1
    assert len(json.loads(download("coco"))["annotations"]) == shown
    assert len(download("yolo").splitlines()) == shown
    with Image.open(io.BytesIO(download("png"))) as drawn, Image.open(PHOTO) as photo:
        assert drawn.size == photo.size


def test_a_picture_comes_by_address_and_a_link_reopens_everything(browser: Browser, app: App):
    photo = PHOTO.read_bytes()
    with PictureHost({"/dogs.jpg": lambda request: request.reply(200, photo)}) as host:
        first = Visitor(browser, app.url)
        first.page.locator("rt-stage .add").click()
        first.page.locator("rt-add-picture input[type=url]").fill(host.url + "/dogs.jpg")
        first.page.get_by_role("button", name="Fetch").click()
        first.wait_for("s.result?.source?.url && !s.busy")
        first.slide("depth", 2)
        first.slide("threshold", 0.7)
        first.page.wait_for_url("**layers=2**threshold=0.7**")
        shown, link = first.boxes(), first.page.url
        first.close()
        second = Visitor(browser, link)
        second.wait_for("s.result?.source?.url && !s.busy")
        assert second.state("[s.depth, s.threshold]") == [2, 0.7]
        assert second.boxes() == shown
        second.close()


def test_back_and_forward_step_through_the_pictures(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url)
    for example in ("sheep.jpg", "cat.jpg"):
        visitor.page.locator(f"rt-filmstrip [data-example='{example}']").click()
        visitor.page.wait_for_url(f"**example={example}**")
    visitor.page.go_back()
    visitor.wait_for("s.result.source.example === 'sheep.jpg'")
    visitor.page.go_back()
    visitor.wait_for("s.result.source.example === 'cows.jpg'")
    visitor.page.go_forward()
    visitor.wait_for("s.result.source.example === 'sheep.jpg'")
    visitor.close()


def test_back_and_forward_restore_every_setting_in_the_address(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url)
    page = visitor.page
    page.locator("rt-filmstrip [data-example='cat.jpg']").click()
    page.wait_for_url("**example=cat.jpg**")
    visitor.slide("depth", 2)
    visitor.slide("threshold", 0.7)
    page.locator("rt-app").evaluate("a => a.app.actions.setShape({queries: 50, size: 192})")
    visitor.wait_for("s.result.settings.queries === 50 && !s.busy")
    page.wait_for_url("**layers=2&threshold=0.7&queries=50&size=192")

    # Each of these is a step; what is set in between belongs to the step before.
    page.locator(".pill").click()
    page.locator("rt-checkpoint-sheet input[value=bundled]").check(force=True)
    page.keyboard.press("Escape")
    page.wait_for_url("**checkpoint=bundled**")
    visitor.wait_for("s.checkpoint === 'bundled' && s.result.settings.queries === null && !s.busy")
    page.get_by_role("tab", name="Speed lab").click()
    page.wait_for_url("**view=lab**")
    page.get_by_role("tab", name="Camera").click()
    page.wait_for_url("**source=camera**")

    settings = "[s.source, s.view, s.checkpoint, s.queries, s.size, s.depth, s.threshold]"

    def expect_settings(*wanted: object) -> None:
        visitor.wait_for(
            f"!s.busy && JSON.stringify({settings}) === '{json.dumps(wanted)}'.replaceAll(' ', '')"
        )

    steps = [
        ("photo", "detections", "", 50, 192, 2, 0.7),
        ("photo", "detections", "bundled", None, None, 2, 0.7),
        ("photo", "lab", "bundled", None, None, 2, 0.7),
        ("camera", "lab", "bundled", None, None, 2, 0.7),
    ]
    expect_settings(*steps[-1])
    for wanted in steps[-2::-1]:
        page.go_back()
        expect_settings(*wanted)
        used = json.dumps(wanted[3:5], separators=(",", ":"))
        visitor.wait_for(
            "!s.busy && s.result.source.example === 'cat.jpg'"
            f" && JSON.stringify([s.result.settings.queries, s.result.settings.size]) === '{used}'"
        )
    for wanted in steps[1:]:
        page.go_forward()
        expect_settings(*wanted)
    visitor.close()


def test_one_click_runs_an_example(visitor: Visitor):
    assert visitor.page.locator("rt-filmstrip button").count() >= 6
    visitor.page.locator("rt-filmstrip button").nth(1).click()
    visitor.wait_for("s.result.source.example === 'sheep.jpg' && !s.busy")
    visitor.wait_for_boxes()


DROPPED = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "p.jpg", {type: "image/jpeg"}));
  return data;
}"""


def test_a_picture_is_pasted_and_dropped_anywhere(at_desk: Visitor):
    page = at_desk.page
    data = page.evaluate_handle(DROPPED, list(PHOTO.read_bytes()))
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    at_desk.wait_for("s.result?.title === 'p.jpg' && !s.busy")
    page.locator("rt-filmstrip button").first.click()
    at_desk.wait_for("s.result.source.example === 'cows.jpg' && !s.busy")
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', "
        "{clipboardData: data, bubbles: true, composed: true}))",
        page.evaluate_handle(DROPPED, list(PHOTO.read_bytes())),
    )
    at_desk.wait_for("s.result.title === 'p.jpg' && !s.busy")


def test_a_video_dropped_on_a_photo_opens_as_a_video(at_desk: Visitor, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", frames=5, sound=None)
    data = at_desk.page.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "clip.mkv"));
          return data;
        }""",
        list(clip.read_bytes()),
    )
    at_desk.page.dispatch_event("body", "drop", {"dataTransfer": data})
    at_desk.wait_for("s.source === 'video' && s.video?.title === 'clip.mkv'")
    expect(at_desk.page.locator("rt-video-panel .run")).to_be_visible()


def test_a_snapshot_is_taken_and_a_refused_camera_is_a_sentence(at_desk: Visitor):
    page = at_desk.page
    page.locator("rt-stage .add").click()
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    at_desk.wait_for("s.result?.title === 'snapshot.jpg' && !s.busy")
    page.evaluate(
        """() => navigator.mediaDevices.getUserMedia = () =>
             Promise.reject(new DOMException("no", "NotAllowedError"))"""
    )
    page.locator("rt-stage .add").click()
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("rt-add-picture .wrong")).to_contain_text("Camera access was denied")


def test_a_bad_file_or_address_is_a_sentence_and_nothing_is_lost(on_desk: Shown, tmp_path: Path):
    before = on_desk.boxes()
    problem = on_desk.problem
    for name, content, words in [
        ("letter.jpg", b"Dear reader, no picture here.", "not a picture"),
        ("cut.jpg", PHOTO.read_bytes()[:20_000], "cut off"),
    ]:
        bad = tmp_path / name
        bad.write_bytes(content)
        on_desk.upload(bad)
        expect(problem).to_contain_text(words)
        assert on_desk.boxes() == before
    for address, words in [("http://10.0.0.1/a.jpg", "private network"), ("a.jpg", "must start")]:
        on_desk.page.locator("rt-stage .add").click()
        on_desk.page.locator("rt-add-picture input[type=url]").fill(address)
        on_desk.page.get_by_role("button", name="Fetch").click()
        expect(problem).to_contain_text(words)
    on_desk.upload(PHOTO)
    expect(problem).to_be_hidden()
