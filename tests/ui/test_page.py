"""The page in a real browser: the first visit, the picture, the ladder, what is below them."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

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


def server_answer(visitor: Visitor) -> dict:
    """Upload the photo and give back what the server said of it."""

    def is_detect(response) -> bool:
        return "component_server" in response.url and '"path"' in (response.request.post_data or "")

    with visitor.page.expect_response(is_detect) as caught:
        visitor.upload(PHOTO)
    answer = caught.value.json()
    visitor.slide("depth", 6)
    visitor.wait_for_boxes()
    return answer


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
    visitor: Visitor,
):
    answer = server_answer(visitor)
    page = visitor.page
    asked: list[str] = []
    page.on(
        "request",
        lambda r: asked.append(r.url) if '"queries"' in (r.post_data or "") else None,
    )
    for layer in (1, 3, 6, 2):
        for threshold in (0.5, 0.8):
            visitor.slide("depth", layer)
            visitor.slide("threshold", threshold)
            shown = [score for _, score in visitor.boxes()]
            assert shown == above(answer, layer, threshold)
            expect(page.locator("rt-detections tr[data-key]")).to_have_count(len(shown))
    visitor.slide("threshold", 0.3)
    chip = page.locator("rt-confidence [data-label]").first
    label = chip.get_attribute("data-label")
    before = visitor.boxes()
    chip.click()
    after = visitor.boxes()
    assert label in {name for name, _ in before}
    assert after == [box for box in before if box[0] != label]
    page.locator("rt-confidence [data-act=all]").click()
    assert visitor.boxes() == before
    assert asked == []


def test_a_redraw_takes_under_two_frames_from_input_to_paint(at_desk: Visitor):
    """300 queries x 6 layers, threshold 0, so that all 300 boxes are drawn.

    Held to the bar is what the page's own thread computes for one redraw, as the clock also counts
    whatever else the machine does; the clock's time is printed.
    """
    server_answer(at_desk)
    at_desk.slide("threshold", 0)
    browser = at_desk.context.new_cdp_session(at_desk.page)
    browser.send("Performance.enable", {"timeDomain": "threadTicks"})

    def computed_ms() -> float:
        metrics = browser.send("Performance.getMetrics")["metrics"]
        return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    measure = """async (slider) => {
      const times = [];
      for (let i = 0; i < 30; i++) {
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
      return times.sort((a, b) => a - b)[15];
    }"""
    medians, computed = [], []
    for _ in range(4):
        before = computed_ms()
        medians.append(at_desk.page.locator("#depth").evaluate(measure))
        computed.append((computed_ms() - before) / 30)
    assert len(at_desk.boxes()) == 300
    print(
        f"300 boxes: {min(medians):.1f} ms from input to paint (median), of it the page computes "
        f"{min(computed):.1f} ms"
    )
    assert min(computed) < 33


def test_what_a_depth_loses_of_full_depth_is_a_ghost(at_desk: Visitor):
    server_answer(at_desk)
    at_desk.slide("depth", 1)
    kept, of = map(int, at_desk.page.locator("rt-ladder .kept").inner_text().split(" of "))
    assert len(at_desk.ghosts()) == of - kept
    at_desk.slide("depth", 6)
    assert at_desk.ghosts() == []


def test_hidden_doubles_are_counted_in_plain_sight(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url + "?example=musicians.jpg&threshold=0.1")
    visitor.wait_for_boxes()
    toggle = visitor.page.locator("rt-confidence [data-act=doubles]")
    count = int(toggle.locator("b").inner_text())
    before = len(visitor.boxes())
    toggle.click()
    assert len(visitor.boxes()) == before - count < before
    expect(toggle).to_have_text(f"doubles hidden {count}")
    visitor.close()


def test_class_names_are_only_text(at_desk: Visitor):
    server_answer(at_desk)
    at_desk.slide("threshold", 0.2)
    # One class of the small model is called "<b>bold</b>": it must not become an element.
    assert "<b>bold</b>" in {label for label, _ in at_desk.boxes()}
    assert at_desk.page.locator("rt-detections b, rt-confidence [data-label] b b").count() == 0


def test_row_and_box_light_each_other(at_desk: Visitor):
    server_answer(at_desk)
    at_desk.page.locator("rt-detections tr[data-key]").nth(2).hover()
    third = at_desk.state("s.hovered")
    assert at_desk.page.locator("rt-detections tr.lit").get_attribute("data-key") == third
    at_desk.page.locator("rt-stage .frame").scroll_into_view_if_needed()
    middle = at_desk.page.locator("rt-stage").evaluate(
        """stage => {
          const {scale, left, top} = stage.boxes.layout();
          const one = stage.drawn.detections.at(-1);
          const frame = stage.querySelector(".frame").getBoundingClientRect();
          return [frame.left + left + (one.x + one.width / 2) * scale,
                  frame.top + top + (one.y + one.height / 2) * scale];
        }"""
    )
    at_desk.page.mouse.move(*middle)
    lit = at_desk.state("s.hovered")
    assert lit is not None
    expect(at_desk.page.locator("rt-detections tr.lit")).to_have_attribute("data-key", lit)


def test_a_click_on_a_row_tells_its_life(at_desk: Visitor):
    answer = server_answer(at_desk)
    at_desk.page.locator("rt-detections tr[data-key]").first.click()
    rows = at_desk.page.locator("rt-detections .life tbody tr")
    expect(rows).to_have_count(6)
    best = answer["layers"][5]["scores"][0]
    expect(rows.last).to_contain_text(f"{best:.2f}")
    expect(rows.last).to_contain_text("1.00")


def test_the_table_sorts_by_every_column(at_desk: Visitor):
    server_answer(at_desk)
    for key in ("label", "score", "x", "y", "width", "height", "area"):
        head = at_desk.page.locator(f"rt-detections th[data-key={key}]")
        for _ in range(2):
            head.locator("button").click()
            direction = head.get_attribute("aria-sort")
            column = head.evaluate("cell => cell.cellIndex")
            cells = at_desk.page.locator(
                f"rt-detections .table tbody tr > :nth-child({column + 1})"
            ).all_inner_texts()
            if key == "label":  # of the small model's names one has signs, which sort first
                values: list = [cell for cell in cells if "bold" not in cell]
            else:
                values = [float(cell.rstrip(" %")) for cell in cells]
            assert values == sorted(values, reverse=direction == "descending"), key


def test_keyboard_alone_reaches_ladder_stage_table_and_views(at_desk: Visitor):
    server_answer(at_desk)
    page = at_desk.page
    page.locator("#depth").focus()
    page.keyboard.press("ArrowLeft")
    assert at_desk.state("s.depth") == 5
    expect(page.locator("#depth")).to_have_attribute("aria-valuetext", re.compile("^5 of 6 layers"))
    page.locator("rt-stage .frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("rt-stage .frame")).to_have_attribute("aria-label", re.compile("^2 of "))
    page.keyboard.press("Enter")
    assert at_desk.state("s.selected === s.hovered && s.selected !== null")
    page.locator("rt-detections th[data-key=label] button").focus()
    page.keyboard.press("Enter")
    head = page.locator("rt-detections th[data-key=label]")
    assert head.get_attribute("aria-sort") == "ascending"


def test_the_ladder_is_dragged(visitor: Visitor):
    server_answer(visitor)
    track = visitor.page.locator("rt-ladder .track")
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    assert box
    mouse, middle = visitor.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + box["width"] - 2, middle)
    mouse.down()
    mouse.move(box["x"] + 5, middle, steps=4)
    mouse.up()
    assert visitor.state("s.depth") == 1
    assert visitor.page.locator("rt-ladder .cut").count() == 5


def test_two_depths_are_compared_with_a_divider_on_the_picture(visitor: Visitor):
    answer = server_answer(visitor)
    page = visitor.page
    page.locator("rt-ladder .compare input").check()
    assert visitor.state("s.compare") == 1
    divider = page.locator("rt-stage .divider")
    divider.scroll_into_view_if_needed()
    box = divider.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=3)
    page.mouse.up()
    assert 0 < visitor.state("s.split") < 0.5
    left = page.locator("rt-stage").evaluate("s => s.boxes.scene.compared.map(one => one.score)")
    assert left == above(answer, 1, visitor.state("s.threshold"))
    page.locator("rt-ladder .compare input").uncheck()
    expect(divider).to_be_hidden()


def test_every_download_holds_what_is_shown(visitor: Visitor):
    server_answer(visitor)
    visitor.slide("depth", 3)
    visitor.slide("threshold", 0.6)
    shown = len(visitor.boxes())
    assert shown

    def download(form: str) -> bytes:
        with visitor.page.expect_download() as caught:
            visitor.page.locator(f"rt-export [data-form={form}]").click()
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
    for example in ("cows.jpg", "cat.jpg"):
        visitor.page.locator(f"rt-filmstrip [data-example='{example}']").click()
        visitor.page.wait_for_url(f"**example={example}**")
    visitor.page.go_back()
    visitor.wait_for("s.result.source.example === 'cows.jpg'")
    visitor.page.go_back()
    visitor.wait_for("s.result.source.example === 'sheep.jpg'")
    visitor.page.go_forward()
    visitor.wait_for("s.result.source.example === 'cows.jpg'")
    visitor.close()


def test_one_click_runs_an_example(visitor: Visitor):
    assert visitor.page.locator("rt-filmstrip button").count() >= 6
    visitor.page.locator("rt-filmstrip button").nth(1).click()
    visitor.wait_for("s.result.source.example === 'cows.jpg' && !s.busy")
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
    at_desk.wait_for("s.result.source.example === 'sheep.jpg' && !s.busy")
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
    page.get_by_role("button", name="Take one with the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    at_desk.wait_for("s.result?.title === 'snapshot.jpg' && !s.busy")
    page.evaluate(
        """() => navigator.mediaDevices.getUserMedia = () =>
             Promise.reject(new DOMException("no", "NotAllowedError"))"""
    )
    page.locator("rt-stage .add").click()
    page.get_by_role("button", name="Take one with the camera").click()
    expect(page.locator("rt-add-picture .wrong")).to_contain_text("The camera was refused")


def test_a_bad_file_or_address_is_a_sentence_and_nothing_is_lost(at_desk: Visitor, tmp_path: Path):
    server_answer(at_desk)
    before = at_desk.boxes()
    problem = at_desk.problem
    for name, content, words in [
        ("letter.jpg", b"Dear reader, no picture here.", "not a picture"),
        ("cut.jpg", PHOTO.read_bytes()[:20_000], "damaged or cut off"),
    ]:
        bad = tmp_path / name
        bad.write_bytes(content)
        at_desk.upload(bad)
        expect(problem).to_contain_text(words)
        assert at_desk.boxes() == before
    for address, words in [("http://10.0.0.1/a.jpg", "private network"), ("a.jpg", "must start")]:
        at_desk.page.locator("rt-stage .add").click()
        at_desk.page.locator("rt-add-picture input[type=url]").fill(address)
        at_desk.page.get_by_role("button", name="Fetch").click()
        expect(problem).to_contain_text(words)
    at_desk.upload(PHOTO)
    expect(problem).to_be_hidden()
