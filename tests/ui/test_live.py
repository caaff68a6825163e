"""The live tab in a real browser whose camera shows a real clip."""

import base64
import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.serving.test_service import Caller, check_refusal
from tests.support.app import App
from tests.support.paths import EXAMPLES
from tests.support.visitor import Visitor


def frame(number: int = 0) -> str:
    """A camera frame as the page sends it: base64 of a 640x480 JPEG."""
    buffer = io.BytesIO()
    with Image.open(EXAMPLES / "musicians.jpg") as photo:
        photo.crop((number, 0, 640 + number, 480)).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


class Spectator(Visitor):
    """A visitor on the live tab, who can look at what the page sends."""

    def __init__(self, browser: Browser, url: str, size: str = "desk"):
        super().__init__(browser, url, size)
        self.sent: list[dict] = []
        self.page.on("request", self._note)
        self.page.get_by_role("tab", name="Live").click()
        self.page.wait_for_selector("#live-stage")
        self.problem = self.page.locator(".rt-live > .rt-bench .rt-problem")

    def _note(self, request) -> None:
        if "component_server" in request.url and '"frame"' in (request.post_data or ""):
            self.sent.append(request.post_data_json["data"])

    def start(self) -> None:
        self.page.get_by_role("button", name="Start the camera").click()

    def wait_for_frames(self, count: int = 5) -> None:
        before = len(self.sent)
        deadline = time.monotonic() + 30
        while len(self.sent) < before + count:
            assert time.monotonic() < deadline, self.problem.inner_text()
            self.page.wait_for_timeout(50)


@pytest.fixture
def spectator(browser: Browser, app: App) -> Iterator[Spectator]:
    spectator = Spectator(browser, app.url)
    yield spectator
    spectator.close()


def test_boxes_and_readouts_appear_over_the_camera(spectator: Spectator):
    spectator.slide("live-threshold", 0.05)
    spectator.start()
    expect(spectator.page.locator("#live-stage .detection").first).to_be_attached(timeout=30_000)
    for name, form in [
        ("detection-fps", r"^[\d.]+ FPS$"), ("camera-fps", r"^\d+ FPS$"), ("dropped", r"\d+ / s"),
        *((name, r"ms$") for name in ("median", "p95", "network", "wait", "model")),
    ]:  # fmt: skip
        readout = spectator.page.locator(f".rt-live .rt-{name}")
        expect(readout).to_have_text(re.compile(form), timeout=10_000)
    drawn = spectator.page.locator(".rt-chart-line").get_attribute("d")
    assert drawn
    assert "L" in drawn


def test_nothing_is_cut_off_on_a_phone(browser: Browser, app: App):
    spectator = Spectator(browser, app.url, "phone")
    spectator.start()
    spectator.wait_for_frames(3)
    assert spectator.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    spectator.close()


def test_boxes_follow_people_before_the_camera(browser: Browser, bundled_app: App):
    spectator = Spectator(browser, bundled_app.url)
    spectator.start()
    people = spectator.page.locator('#live-stage .detection[data-label="person"]')
    expect(people.first).to_be_attached(timeout=60_000)
    spectator.close()


def test_the_slider_cuts_the_decoder_from_the_next_frame(spectator: Spectator):
    answers: list[dict] = []
    spectator.page.on(
        "response",
        lambda r: answers.append(r) if '"frame"' in (r.request.post_data or "") else None,
    )
    spectator.start()
    spectator.wait_for_frames(3)
    spectator.slide("live-decoder-layers", 2)
    spectator.wait_for_frames(4)
    assert {one["decoder_layers"] for one in spectator.sent[:3]} == {6}
    assert spectator.sent[-1]["decoder_layers"] == 2
    expect(spectator.page.locator(".rt-live .rt-depth")).to_have_text("2 of 6")


def test_one_frame_is_under_way_at_a_time(spectator: Spectator):
    under_way, most = 0, 0

    def is_frame(request) -> bool:
        return "component_server" in request.url and '"frame"' in (request.post_data or "")

    def asked(request) -> None:
        nonlocal under_way, most
        under_way += is_frame(request)
        most = max(most, under_way)

    def answered(request) -> None:
        nonlocal under_way
        under_way -= is_frame(request)

    spectator.page.on("request", asked)
    spectator.page.on("requestfinished", answered)
    spectator.start()
    spectator.wait_for_frames(10)
    assert most == 1


def test_pause_and_a_hidden_tab_send_nothing(spectator: Spectator):
    spectator.start()
    spectator.wait_for_frames(3)
    spectator.page.get_by_role("button", name="Pause").click()
    spectator.page.wait_for_timeout(800)
    before = len(spectator.sent)
    spectator.page.wait_for_timeout(1000)
    assert len(spectator.sent) == before
    spectator.page.get_by_role("button", name="Resume").click()
    spectator.wait_for_frames(2)
    spectator.page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true});"
        "window.away = true"
    )
    spectator.page.wait_for_timeout(800)
    before = len(spectator.sent)
    spectator.page.wait_for_timeout(1000)
    assert len(spectator.sent) == before
    spectator.page.evaluate("window.away = false")
    spectator.wait_for_frames(2)


def test_the_mirror_turns_boxes_with_the_picture(spectator: Spectator):
    spectator.slide("live-threshold", 0.05)
    spectator.start()
    expect(spectator.page.locator("#live-stage .detection").first).to_be_attached(timeout=30_000)
    spectator.page.get_by_role("button", name="Pause").click()
    spectator.page.wait_for_timeout(800)

    def lefts() -> list[float]:
        return spectator.page.eval_on_selector_all(
            "#live-stage .detection .box",
            "boxes => boxes.map(b => [b.x.baseVal.value, b.width.baseVal.value]).flat()",
        )

    mirrored = lefts()
    spectator.page.get_by_role("button", name="Mirror").click()
    plain = lefts()
    for (left, width), (other, _) in zip(
        zip(mirrored[::2], mirrored[1::2], strict=True),
        zip(plain[::2], plain[1::2], strict=True),
        strict=True,
    ):
        assert left + width + other == pytest.approx(640, abs=0.5)


def test_a_snapshot_becomes_a_photo_with_its_downloads(spectator: Spectator):
    spectator.start()
    spectator.wait_for_frames(2)
    spectator.page.get_by_role("button", name="Snapshot").click()
    expect(spectator.page.locator("#stage.filled")).to_be_visible(timeout=30_000)
    expect(spectator.page.locator(".rt-downloads button").first).to_be_enabled()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "The camera was refused"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "busy in another program"),
        ("SomethingElse", "did not start"),
    ],
)
def test_each_trouble_with_the_camera_has_its_sentence(spectator: Spectator, name, words):
    spectator.page.evaluate(
        "(name) => {navigator.mediaDevices.getUserMedia = async () => "
        "{throw new DOMException('', name)}}",
        name,
    )
    spectator.start()
    expect(spectator.problem).to_contain_text(words)


def test_an_unplugged_camera_is_a_sentence(spectator: Spectator):
    spectator.start()
    spectator.wait_for_frames(2)
    spectator.page.evaluate(
        "document.querySelector('#live-stage video').srcObject.getTracks()[0]"
        ".dispatchEvent(new Event('ended'))"
    )
    expect(spectator.problem).to_contain_text("unplugged")


def test_it_resumes_by_itself_when_the_server_comes_back(browser: Browser, tiny: Path):
    first = App("--checkpoint", str(tiny), HF_HUB_OFFLINE="1")
    spectator = Spectator(browser, first.url)
    spectator.start()
    spectator.wait_for_frames(3)
    first.process.kill()
    first.process.wait()
    expect(spectator.problem).to_contain_text("does not answer", timeout=20_000)
    second = App("--checkpoint", str(tiny), port=first.port, HF_HUB_OFFLINE="1")
    expect(spectator.problem).to_be_hidden(timeout=60_000)
    spectator.wait_for_frames(3)
    spectator.context.close()  # its console tells of the server's absence, as it should
    second.stop()


# --- The function behind it ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def call(app: App) -> Caller:
    return Caller(app, "live")


GOOD = {"viewer": "viewer-number-1", "image": frame(), "checkpoint": "", "decoder_layers": 6}


def test_a_frame_is_answered_with_one_layer_and_where_the_time_went(call: Caller):
    answer = call("frame", {**GOOD, "decoder_layers": 3})
    assert len(answer["layers"]) == 1
    assert all(score >= 0.05 for score in answer["layers"][0]["scores"])
    assert (answer["width"], answer["height"], answer["depth"]) == (640, 480, 6)
    spent = answer["timing_ms"]
    assert spent["server"] >= spent["wait"] + spent["total"] - 1


@pytest.mark.parametrize(
    "change",
    [
        {"viewer": ""}, {"viewer": 5}, {"image": "no base64!"}, {"image": ""}, {"image": None},
        {"image": base64.b64encode(b"no picture").decode()}, {"image": "A" * 3_000_001},
        {"decoder_layers": 0}, {"decoder_layers": "6"}, {"decoder_layers": None},
        {"checkpoint": "owner/unlisted"}, {"more": 1},
    ],
)  # fmt: skip
def test_every_hostile_frame_is_a_sentence(call: Caller, change):
    check_refusal(call("frame", {**GOOD, **change}))


def test_viewers_share_the_model_fairly_and_past_the_limit_one_is_told_to_wait(app: App):
    served, refused, end = [0] * 10, [], time.monotonic() + 4

    def watch(number: int) -> None:
        caller = Caller(app, "live")
        while time.monotonic() < end:
            answer = caller("frame", {**GOOD, "viewer": f"fair-viewer-{number}"})
            served[number] += "layers" in answer
            if "error" in answer:
                refused.append(answer["error"])

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    assert min(served) >= 0.6 * max(served)
    last = Caller(app, "live")
    answers = [last("frame", {**GOOD, "viewer": f"crowd-viewer-{number}"}) for number in range(16)]
    assert any("people are watching live" in answer.get("error", "") for answer in answers)
