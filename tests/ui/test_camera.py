"""The camera as a source of the stage, in a real browser whose camera shows a real clip."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, WebSocket, expect

from tests.support.app import App
from tests.support.visitor import Visitor


class Spectator(Visitor):
    """A visitor before the camera; `sent` holds the header of each frame that the page sends, and
    `most` how many were ever under way at once."""

    def __init__(self, browser: Browser, url: str, size: str = "desk"):
        self.sent: list[dict] = []
        self.under_way = self.most = 0
        super().__init__(browser, url, size)
        self.page.on("websocket", self._listen)
        self.page.get_by_role("tab", name="Camera").click()

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framesent", self._note)
        socket.on("framereceived", self._answered)

    def _note(self, content: str | bytes) -> None:
        assert isinstance(content, bytes)
        self.sent.append(json.loads(content[2 : 2 + int.from_bytes(content[:2], "big")]))
        self.under_way += 1
        self.most = max(self.most, self.under_way)

    def _answered(self, content: str | bytes) -> None:
        self.under_way -= "frame" in json.loads(content)

    def start(self) -> None:
        self.page.get_by_role("button", name="Start camera").click()
        self.wait_for("s.result?.title === 'camera'", 60)

    def wait_for_frames(self, count: int) -> None:
        wanted = len(self.sent) + count
        for _ in range(600):
            if len(self.sent) >= wanted:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{len(self.sent)} frames, not {wanted}")

    def is_filming(self) -> bool:
        return self.page.evaluate("window.stream?.getTracks()[0].readyState === 'live'")


@pytest.fixture
def spectator(browser: Browser, app: App) -> Iterator[Spectator]:
    spectator = Spectator(browser, app.url)
    yield spectator
    spectator.close()


def test_boxes_follow_people_before_the_camera(browser: Browser, bundled_app: App):
    spectator = Spectator(browser, bundled_app.url)
    spectator.start()
    people = "s.result.predictions.layers[0].labels.some((k, i) => "
    people += "s.result.predictions.classes[k] === 'person' && "
    people += "s.result.predictions.layers[0].scores[i] > 0.3)"
    spectator.wait_for(people, 60)
    spectator.close()


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_three_figures_a_band_and_a_median_of_each_depth_visited(browser: Browser, app: App, size):
    spectator = Spectator(browser, app.url, size)
    spectator.start()
    spectator.slide("depth", 2)
    spectator.wait_for("s.live?.byDepth[1] && s.live.median && s.live.fps && s.live.camera", 60)
    figures = spectator.page.locator("rt-live-figures")
    expect(figures.locator(".fps")).to_contain_text("FPS")
    expect(figures.locator(".median")).to_contain_text("ms")
    expect(figures.locator(".line")).to_have_attribute("d", re.compile("L"), timeout=30_000)
    expect(figures.locator(".times td.now")).not_to_have_text("·")
    assert spectator.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    spectator.close()


def test_one_frame_is_under_way_and_the_slider_cuts_from_the_next(spectator: Spectator):
    spectator.start()
    assert spectator.sent[0]["decoder_layers"] == spectator.state("s.depth")
    spectator.slide("depth", 2)
    spectator.wait_for("s.result.predictions.first === 2")
    spectator.wait_for_frames(5)
    assert spectator.sent[-1]["decoder_layers"] == 2
    assert spectator.most == 1


def test_pause_sends_nothing(spectator: Spectator):
    spectator.start()
    spectator.page.get_by_role("button", name="Pause").click()
    spectator.page.wait_for_timeout(800)
    before = len(spectator.sent)
    spectator.page.wait_for_timeout(1000)
    assert len(spectator.sent) == before
    spectator.page.get_by_role("button", name="Resume").click()
    spectator.wait_for_frames(2)


def test_another_source_lets_the_camera_go_and_puts_the_photo_back(spectator: Spectator):
    spectator.page.evaluate(
        "() => {const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
        "navigator.mediaDevices.getUserMedia = async (w) => (window.stream = await open(w))}"
    )
    title = spectator.state("s.result.title")
    spectator.start()
    assert spectator.is_filming()
    spectator.page.get_by_role("tab", name="Photo").click()
    spectator.wait_for(f"s.result.title === {title!r}")
    assert not spectator.is_filming()


def test_the_photo_comes_back_by_way_of_the_video_too(spectator: Spectator):
    spectator.wait_for("s.result.settings.checkpoint === s.status?.checkpoint && !s.busy")
    title = spectator.state("s.result.title")
    spectator.start()
    spectator.page.get_by_role("tab", name="Video").click()
    expect(spectator.page.get_by_role("button", name="Choose a video")).to_be_visible()
    spectator.page.get_by_role("tab", name="Photo").click()
    spectator.wait_for(f"s.result.title === {title!r}")
    expect(spectator.page.locator("rt-stage .media > img")).to_be_visible()


def test_who_leaves_the_camera_and_comes_back_at_once_is_not_told_of_a_frame_under_way(
    spectator: Spectator,
):
    spectator.page.evaluate(  # answers take a while
        "() => {const {set} = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'onmessage');"
        "Object.defineProperty(WebSocket.prototype, 'onmessage', {set(handle) {"
        "set.call(this, (event) => setTimeout(handle, 1500, event))}})}"
    )
    spectator.start()
    spectator.page.locator("rt-app").evaluate(
        "(a) => {window.problems = []; a.app.store.subscribe(['problem'], "
        "(s) => s.problem && window.problems.push(s.problem))}"
    )
    for _ in range(2):
        spectator.page.get_by_role("tab", name="Photo").click()
        spectator.page.get_by_role("tab", name="Camera").click()
        spectator.page.get_by_role("button", name="Start camera").click()
        spectator.wait_for_frames(1)
    assert spectator.page.evaluate("window.problems") == []


def test_a_snapshot_becomes_a_photo(spectator: Spectator):
    spectator.start()
    spectator.page.get_by_role("button", name="Snapshot").click()
    spectator.wait_for("s.source === 'photo' && s.result.title === 'snapshot.jpg'")
    assert spectator.state("s.result.predictions.layers.length") == 6


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "Camera access was denied"),
        ("NotFoundError", "No camera found"),
        ("NotReadableError", "in use by another program"),
        ("SomethingElse", "did not start"),
    ],
)
def test_without_a_camera_a_sentence_and_the_sample_clip(spectator: Spectator, name, words):
    spectator.page.evaluate(
        "(name) => {navigator.mediaDevices.getUserMedia = async () => "
        "{throw new DOMException('', name)}}",
        name,
    )
    spectator.page.get_by_role("button", name="Start camera").click()
    expect(spectator.problem).to_contain_text(words)
    spectator.page.get_by_role("button", name="Use a sample clip").click()
    spectator.wait_for("s.result?.title === 'sample clip' && !s.problem")
