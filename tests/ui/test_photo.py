"""The page in a real browser: headless Chromium, at desk and phone width."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.support.app import App
from tests.support.models import random_model, save, small
from tests.support.paths import EXAMPLES
from tests.support.standin import HubStandIn, PictureHost
from tests.support.visitor import SIZES, Visitor

PHOTO = EXAMPLES / "dogs.jpg"


@pytest.fixture(params=SIZES)
def visitor(request: pytest.FixtureRequest, browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url, request.param)
    yield visitor
    visitor.close()


@pytest.fixture
def dispatcher(browser: Browser, app: App) -> Iterator[Visitor]:
    visitor = Visitor(browser, app.url)
    yield visitor
    visitor.close()


def server_answer(visitor: Visitor) -> dict:
    """Upload the photo and give back what the server said of it."""

    def is_detect(response) -> bool:
        return "component_server" in response.url and '"detect"' in (
            response.request.post_data or ""
        )

    with visitor.page.expect_response(is_detect) as caught:
        visitor.upload(PHOTO)
    answer = caught.value.json()
    visitor.wait_for_boxes()
    return answer


def above(answer: dict, layer: int, threshold: float) -> list[float]:
    return [score for score in answer["layers"][layer - 1]["scores"] if score > threshold]


def test_the_page_answers_within_fifteen_seconds_whatever_the_hub_does(tmp_path: Path):
    with HubStandIn({}) as hub:
        hub.behave = "hang"
        app = App(
            "--checkpoint",
            "PekingU/rtdetr_r50vd_coco_o365",
            HF_ENDPOINT=hub.url,
            HF_HUB_CACHE=str(tmp_path),
        )
        app.stop()
    print(f"from start to first answer: {app.seconds_to_answer:.1f} s")
    assert app.seconds_to_answer < 15


def test_slider_threshold_and_filter_show_what_the_server_sent_without_asking_again(
    visitor: Visitor,
):
    answer = server_answer(visitor)
    page = visitor.page
    asked: list[str] = []
    page.on(
        "request",
        lambda r: asked.append(r.url) if '"detect"' in (r.post_data or "") else None,
    )
    for layer in (1, 3, 6, 2):
        for threshold in (0.5, 0.8):
            visitor.slide("decoder-layers", layer)
            visitor.slide("threshold", threshold)
            shown = sorted((score for _, score in visitor.boxes()), reverse=True)
            assert shown == above(answer, layer, threshold)
            expect(page.locator("#results tbody tr")).to_have_count(len(shown))
    visitor.slide("threshold", 0.3)
    chip = page.locator("#classes button").first
    label = chip.get_attribute("data-label")
    before = visitor.boxes()
    chip.click()
    after = visitor.boxes()
    assert label in {name for name, _ in before}
    assert after == [box for box in before if box[0] != label]
    page.locator(".rt-all").click()
    assert visitor.boxes() == before
    assert asked == []


def test_a_redraw_takes_under_fifty_milliseconds_from_input_to_paint(dispatcher: Visitor):
    """300 queries x 6 layers, threshold 0, so that all 300 boxes are drawn."""
    server_answer(dispatcher)
    dispatcher.slide("threshold", 0)
    measure = """async () => {
      const slider = document.querySelector("#decoder-layers");
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
    # The best of a few medians: what else runs on the machine is not the page's doing.
    median = min(dispatcher.page.evaluate(measure) for _ in range(4))
    assert len(dispatcher.boxes()) == 300
    print(f"input to paint, 300 boxes: median {median:.1f} ms")
    assert median < 50


def test_labels_stay_inside_the_picture_and_class_names_are_only_text(visitor: Visitor):
    server_answer(visitor)
    visitor.slide("threshold", 0.2)
    outside = visitor.page.evaluate(
        """() => {
          const frame = document.querySelector("#stage image").getBoundingClientRect();
          return [...document.querySelectorAll("#stage .front .tag")].filter((tag) => {
            const box = tag.getBoundingClientRect();
            return box.left < frame.left - 1 || box.right > frame.right + 1 ||
              box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
          }).length;
        }"""
    )
    assert outside == 0
    tags = visitor.page.locator("#stage .front .tag")
    assert tags.count() == min(len(visitor.boxes()), 80)
    # One class of the small model is called "<b>bold</b>": it must not become an element.
    assert "<b>bold</b>" in {label for label, _ in visitor.boxes()}
    assert visitor.page.locator("#results th b, #stage b").count() == 0


def test_row_and_box_light_each_other(dispatcher: Visitor):
    server_answer(dispatcher)
    dispatcher.page.locator("#results tbody tr").nth(2).hover()
    lit = dispatcher.page.locator("#stage .front .detection.lit")
    assert lit.get_attribute("data-index") == "2"
    smallest = dispatcher.page.locator("#stage .front .detection").last
    smallest.locator(".box").hover()
    index = smallest.get_attribute("data-index") or ""
    expect(dispatcher.page.locator("#results tr.lit")).to_have_attribute("data-index", index)


def test_the_table_sorts_by_every_column(dispatcher: Visitor):
    server_answer(dispatcher)
    for key in ("label", "score", "x", "y", "width", "height", "share"):
        head = dispatcher.page.locator(f"#results th[data-key={key}]")
        head.locator("button").click()
        direction = head.get_attribute("aria-sort")
        assert direction in ("ascending", "descending")
        column = head.evaluate("cell => cell.cellIndex")
        cells = dispatcher.page.locator(
            f"#results tbody tr > :nth-child({column + 1})"
        ).all_text_contents()
        letters = [re.sub("[^a-z]", "", cell) for cell in cells]
        values = letters if key == "label" else [float(cell.rstrip(" %")) for cell in cells]
        if key == "label":  # of the small model's names one has signs, which sort first
            values = [value for value in letters if value != "bboldb"]
        assert values == sorted(values, reverse=direction == "descending")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") != direction


def test_keyboard_alone_reaches_slider_stage_and_table(dispatcher: Visitor):
    server_answer(dispatcher)
    page = dispatcher.page
    page.locator("#decoder-layers").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".rt-depth")).to_have_text("5 of 6")
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#stage .detection.lit")).to_have_attribute("data-index", "1")
    expect(page.locator(".rt-step")).to_contain_text("2 of")
    page.locator("#results th[data-key=label] button").focus()
    page.keyboard.press("Enter")
    assert page.locator("#results th[data-key=label]").get_attribute("aria-sort") == "ascending"


def test_speed_is_measured_and_shown_for_every_depth(dispatcher: Visitor):
    server_answer(dispatcher)
    latency = dispatcher.page.locator(".rt-latency")
    expect(latency).to_have_text(re.compile(r"^[\d.]+ ms$"), timeout=60_000)
    shown = []
    for layer in range(1, 7):
        dispatcher.slide("decoder-layers", layer)
        shown.append(latency.inner_text())
        expect(dispatcher.page.locator(".rt-fps")).to_have_text(re.compile(r"^[\d.]+ FPS$"))
    assert len(set(shown)) > 1
    expect(dispatcher.page.locator(".rt-agree")).to_have_text("Full depth: every layer runs.")
    dispatcher.slide("decoder-layers", 1)
    expect(dispatcher.page.locator(".rt-agree")).to_contain_text("full")


def test_two_depths_are_compared_side_by_side(visitor: Visitor):
    answer = server_answer(visitor)
    visitor.page.locator("#compare").check()
    visitor.page.locator("#compare-layer").select_option("1")
    back = visitor.page.locator("#stage .back .detection")
    assert back.count() == len(above(answer, 1, 0.5))
    assert len(visitor.boxes()) == len(above(answer, 6, 0.5))
    visitor.page.locator(".rt-split").evaluate(
        "s => {s.value = 25; s.dispatchEvent(new Event('input'))}"
    )
    cut = visitor.page.locator("#stage .clip-back rect").get_attribute("width")
    assert float(cut or 0) == pytest.approx(answer["width"] / 4)
    visitor.page.locator("#compare").uncheck()
    assert back.count() == 0


def test_every_download_holds_what_is_shown(visitor: Visitor):
    server_answer(visitor)
    visitor.slide("decoder-layers", 3)
    visitor.slide("threshold", 0.6)
    shown = len(visitor.boxes())
    assert shown

    def download(form: str) -> bytes:
        with visitor.page.expect_download() as caught:
            visitor.page.locator(f".rt-downloads [data-form={form}]").click()
        return Path(caught.value.path()).read_bytes()

    answer = json.loads(download("json"))
    assert (answer["decoder_layers"], len(answer["detections"])) == (3, shown)
    assert len(download("csv").splitlines()) == shown + 1
    assert len(json.loads(download("coco"))["annotations"]) == shown
    assert len(download("yolo").splitlines()) == shown
    with Image.open(io.BytesIO(download("png"))) as drawn, Image.open(PHOTO) as photo:
        assert drawn.size == photo.size


def test_a_picture_comes_by_address_and_a_link_reopens_everything(browser: Browser, app: App):
    photo = PHOTO.read_bytes()
    with PictureHost({"/dogs.jpg": lambda request: request.reply(200, photo)}) as host:
        first = Visitor(browser, app.url)
        first.page.locator(".rt-url").fill(host.url + "/dogs.jpg")
        first.page.get_by_role("button", name="Fetch").click()
        first.wait_for_boxes()
        first.slide("decoder-layers", 2)
        first.slide("threshold", 0.7)
        first.page.wait_for_url("**layers=2**threshold=0.7**")
        shown, link = first.boxes(), first.page.url
        first.close()
        second = Visitor(browser, link)
        second.wait_for_boxes()
        assert second.page.locator("#decoder-layers").input_value() == "2"
        assert second.page.locator("#threshold").input_value() == "0.7"
        assert second.boxes() == shown
        second.close()


def test_one_click_runs_an_example(visitor: Visitor):
    assert visitor.page.locator(".rt-examples button").count() >= 6
    visitor.page.locator(".rt-examples button").first.click()
    visitor.wait_for_boxes()


def test_a_picture_is_pasted(dispatcher: Visitor):
    dispatcher.page.evaluate(
        """async (bytes) => {
          const file = new File([new Uint8Array(bytes)], "p.jpg", {type: "image/jpeg"});
          const data = new DataTransfer();
          data.items.add(file);
          document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
        }""",
        list(PHOTO.read_bytes()),
    )
    dispatcher.wait_for_boxes()


def test_a_picture_is_dropped(dispatcher: Visitor):
    data = dispatcher.page.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "p.jpg", {type: "image/jpeg"}));
          return data;
        }""",
        list(PHOTO.read_bytes()),
    )
    dispatcher.page.dispatch_event("#stage", "drop", {"dataTransfer": data})
    dispatcher.wait_for_boxes()


def test_a_webcam_picture_is_taken(dispatcher: Visitor):
    dispatcher.page.get_by_role("button", name="Webcam").click()
    dispatcher.page.get_by_role("button", name="Take the picture").click()
    expect(dispatcher.page.locator("#stage.filled")).to_be_attached(timeout=30_000)


def test_a_refused_camera_is_a_sentence(browser: Browser, app: App):
    visitor = Visitor(browser, app.url)
    visitor.page.evaluate(
        """() => navigator.mediaDevices.getUserMedia = () =>
             Promise.reject(new DOMException("no", "NotAllowedError"))"""
    )
    visitor.page.get_by_role("button", name="Webcam").click()
    expect(visitor.page.locator(".rt-camera-problem")).to_contain_text("The camera was refused")
    visitor.close()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("letter.jpg", b"Dear reader, no picture here.", "not a picture"),
        ("empty.png", b"", "empty"),
        ("cut.jpg", PHOTO.read_bytes()[:20_000], "damaged or cut off"),
    ],
)
def test_a_bad_file_is_a_sentence_and_nothing_is_lost(
    visitor: Visitor, tmp_path, name, content, words
):
    server_answer(visitor)
    before = visitor.boxes()
    bad = tmp_path / name
    bad.write_bytes(content)
    visitor.upload(bad)
    expect(visitor.page.locator(".rt-problem")).to_contain_text(words)
    assert visitor.boxes() == before
    visitor.upload(PHOTO)
    expect(visitor.page.locator(".rt-problem")).to_be_hidden()


def test_a_bad_address_is_a_sentence(dispatcher: Visitor):
    for address, words in [("http://10.0.0.1/a.jpg", "private network"), ("a.jpg", "must start")]:
        dispatcher.page.locator(".rt-url").fill(address)
        dispatcher.page.get_by_role("button", name="Fetch").click()
        expect(dispatcher.page.locator(".rt-problem")).to_contain_text(words)


def test_nothing_jumps_when_results_arrive(visitor: Visitor):
    def places() -> list[float]:
        return visitor.page.evaluate(
            """() => ["#stage", "#decoder-layers", "#threshold", "#checkpoint", "#results"]
                 .map((s) => document.querySelector(s).getBoundingClientRect().top)"""
        )

    expect(visitor.page.locator(".rt-published dd").first).to_be_visible()
    visitor.page.wait_for_timeout(500)
    before = places()
    server_answer(visitor)
    visitor.page.wait_for_timeout(300)
    assert places() == pytest.approx(before, abs=3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen_and_text_is_readable(
    browser: Browser, app: App, size, scheme
):
    visitor = Visitor(browser, app.url, size, color_scheme=scheme)
    server_answer(visitor)
    page = visitor.page
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    poor = page.evaluate(CONTRAST)
    assert poor == []
    visitor.close()


CONTRAST = """() => {
  // WCAG 2 contrast of every piece of text against the nearest opaque background behind it.
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) =>
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0.7) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll(".rt-photo *, .rt-heading *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.offsetParent || element.disabled) continue;
    const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([element.className || element.tagName, ratio.toFixed(2)]);
  }
  return poor;
}"""


def test_another_checkpoint_is_downloaded_with_progress_and_then_serves(
    browser: Browser, tiny: Path, tmp_path: Path
):
    """The whole way: no hub at first, the bundled checkpoint serves, the hub comes back."""
    other = save(random_model(**small(decoder_layers=3)), tmp_path / "model", 160)
    with HubStandIn({"PekingU/rtdetr_r18vd": other, "owner/tiny": tiny}) as hub:
        hub.behave = "404"
        app = App(
            "--checkpoint", "owner/tiny", "--any-checkpoint",
            HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(tmp_path / "cache"), HF_HUB_OFFLINE="0",
        )  # fmt: skip
        visitor = Visitor(browser, app.url)
        page = visitor.page
        notice = page.locator(".rt-notice-text")
        expect(notice).to_contain_text("The bundled checkpoint serves instead", timeout=20_000)
        visitor.upload(PHOTO)
        expect(page.locator("#stage.filled")).to_be_attached(timeout=30_000)
        page.get_by_role("button", name="Try the hub again").click()
        expect(page.locator(".rt-problem")).to_contain_text("no public model")

        hub.behave = "slow"
        page.get_by_role("button", name="Try the hub again").click()
        expect(notice).to_have_text("Downloading owner/tiny:")
        expect(page.locator(".rt-download-text")).to_have_text(re.compile(r"\d+ of \d+ MB, \d+ %"))
        page.get_by_role("button", name="Cancel").click()
        expect(notice).to_contain_text("cancelled", timeout=15_000)
        hub.behave = "ok"
        page.get_by_role("button", name="Try the hub again").click()
        expect(page.locator(".rt-notice")).to_be_hidden(timeout=30_000)
        expect(page.locator("#checkpoint option").first).to_contain_text("owner/tiny")

        page.locator("#checkpoint").select_option("PekingU/rtdetr_r18vd")
        expect(page.locator(".rt-published")).to_contain_text("46.5")
        page.get_by_role("button", name="Download from the hub").click()
        expect(page.locator("#decoder-layers")).to_have_attribute("max", "3", timeout=30_000)
        page.wait_for_url("**checkpoint=PekingU**")

        page.locator("#checkpoint").select_option("custom")
        page.locator(".rt-custom-id").fill(str(tiny))
        page.locator(".rt-custom").get_by_role("button").click()
        expect(page.locator("#decoder-layers")).to_have_attribute("max", "6", timeout=30_000)
        visitor.close()
        app.stop()
        assert "Traceback" not in app.printed
