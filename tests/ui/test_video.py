"""Video as a source of the stage, in a real browser, and the work behind it."""

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import Busy, Expired
from rtdetr_demo.serving.jobs import Job, Jobs
from rtdetr_demo.serving.scratch import Scratch
from rtdetr_demo.video.options import FILES, Options, Progress, Summary
from rtdetr_demo.video.runner import process
from tests.support.app import App
from tests.support.caller import Caller, check_refusal
from tests.support.clips import ffmpeg, look, make_clip
from tests.support.visitor import Visitor


class Viewer(Visitor):
    """A visitor who opens a clip as the stage's video."""

    def __init__(self, browser: Browser, url: str, clip: Path | None, size: str = "desk"):
        super().__init__(browser, url, size)
        self.page.get_by_role("tab", name="Video").click()
        if clip is None:
            self.page.get_by_role("button", name="Try the sample clip").click()
        else:
            self.page.set_input_files("rt-video input[type=file]", clip)
        self.wait_for("s.video")
        self.panel = self.page.locator("rt-video-panel")
        self.done = self.panel.locator(".done")

    def run(self) -> None:
        self.panel.locator(".run").click()


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_a_clip_goes_in_and_an_annotated_one_comes_out(browser: Browser, app: App, tmp_path, size):
    viewer = Viewer(browser, app.url, make_clip(tmp_path / "clip.mp4"), size)
    viewer.slide("threshold", 0.8)  # of a random model's boxes few are enough
    viewer.panel.locator(".stride").select_option("2")
    viewer.run()
    expect(viewer.done).to_have_text("Done: 20 frames.", timeout=60_000)
    assert viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name, link in zip(FILES, viewer.panel.locator(".downloads a").all(), strict=True):
        with viewer.page.expect_download() as caught:
            link.click()
        assert caught.value.suggested_filename == name
        assert Path(caught.value.path()).stat().st_size > 0
    assert viewer.panel.locator(".lane").count() >= 1
    viewer.close()


def test_the_page_says_that_a_clip_in_hdr_was_tone_mapped(browser: Browser, app: App, tmp_path):
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10:duration=0.3", "-pix_fmt",
        "yuv420p10le", "-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc",
        "smpte2084", "-c:v", "libx264", source := tmp_path / "hdr.mp4",
    )  # fmt: skip
    viewer = Viewer(browser, app.url, source)
    viewer.slide("threshold", 0.8)
    viewer.run()
    expect(viewer.done).to_contain_text("HDR (PQ): it was tone-mapped", timeout=60_000)
    viewer.close()


@pytest.mark.load
def test_boxes_lie_over_the_sample_and_heed_threshold_and_classes(
    browser: Browser, bundled_app: App
):
    """A clip end to end, with the checkpoint that ships."""
    viewer = Viewer(browser, bundled_app.url, None)
    viewer.panel.locator(".stride").select_option("2")
    viewer.run()
    expect(viewer.done).to_have_text("Done: 96 frames.", timeout=120_000)
    viewer.wait_for("s.result.title === 'sample clip'")
    viewer.page.evaluate("0")
    viewer.page.locator("rt-video video").evaluate("v => {v.pause(); v.currentTime = 1}")
    viewer.wait_for("s.result.predictions.layers[0].scores.length > 1")
    assert all(label for label, _ in viewer.boxes())
    # While it plays, its classes are switched, and keep their places.
    viewer.page.locator("rt-video video").evaluate("v => v.play()")
    labels = viewer.state("s.video.outcome.labels")
    chips = viewer.page.locator("rt-confidence [data-label]")
    assert chips.evaluate_all("all => all.map(one => one.dataset.label)") == labels
    chips.first.click()
    viewer.wait_for(f"s.hidden.has({labels[0]!r})")
    viewer.page.locator("rt-video video").evaluate("v => {v.pause(); v.currentTime = 1}")
    assert labels[0] not in {label for label, _ in viewer.boxes()}
    viewer.page.get_by_role("button", name="Show all").click()
    viewer.slide("threshold", 0.99)
    assert viewer.boxes() == []
    with viewer.page.expect_download() as caught:
        viewer.panel.get_by_role("link", name="JSON Lines").click()
    lines = [
        json.loads(line)
        for line in Path(caught.value.path()).read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) == 48
    lives: Counter[int] = Counter()
    for line in lines:
        lives.update(one["id"] for one in line["detections"] if one["label"] == "cow")
    assert lives
    assert max(lives.values()) > 30  # one is followed for most of the clip
    viewer.page.get_by_role("tab", name="Photo").click()
    viewer.wait_for("s.result.picture")
    viewer.close()


def test_cancel_leaves_what_is_done_and_progress_is_told(browser: Browser, app: App, tmp_path):
    clip = make_clip(tmp_path / "long.mp4", frames=2000, size=(64, 48), sound=None)
    viewer = Viewer(browser, app.url, clip)
    viewer.slide("threshold", 0.8)
    viewer.run()
    told = viewer.panel.locator(".told")
    expect(told).to_have_text(
        re.compile(r"\d+ of 2000 frames, [\d.]+ FPS, .* left"), timeout=60_000
    )
    viewer.panel.locator(".cancel").click()
    expect(viewer.done).to_have_text(re.compile(r"Cancelled: \d+ frames"), timeout=30_000)
    viewer.close()


def test_a_file_that_is_no_video_is_a_sentence(browser: Browser, app: App, tmp_path):
    letter = tmp_path / "letter.mp4"
    letter.write_text("No pictures here.")
    viewer = Viewer(browser, app.url, letter)
    viewer.run()
    expect(viewer.problem).to_contain_text("video format is not supported", timeout=30_000)
    viewer.close()


def test_a_sample_clip_out_of_reach_is_a_sentence_and_can_be_tried_again(
    browser: Browser, app: App
):
    visitor = Visitor(browser, app.url)
    visitor.page.route("**/examples/cows.mp4", lambda route: route.abort())
    visitor.page.get_by_role("tab", name="Video").click()
    sample = visitor.page.get_by_role("button", name="Try the sample clip")
    sample.click()
    expect(visitor.problem).to_contain_text("The sample clip could not be loaded")
    visitor.page.unroute("**/examples/cows.mp4")
    sample.click()
    visitor.wait_for("s.video && !s.problem")
    # The browser's own line about the request that was cut is expected, and nothing else.
    assert all("Failed to load resource" in line for line in visitor.trouble)
    visitor.trouble.clear()
    visitor.close()


@pytest.fixture(scope="module")
def call(app: App) -> Caller:
    return Caller(app.url)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/etc/passwd"}, {"path": "\0"}, {"path": 5}, {"decoder_layers": 0},
        {"decoder_layers": None}, {"threshold": 3}, {"threshold": "a"}, {"stride": 0},
        {"stride": 1.5}, {"longest": 5}, {"line": 7.0}, {"classes": "dog"}, {"extra": 1},
        {"checkpoint": "owner/unlisted"},
    ],
)  # fmt: skip
def test_every_hostile_start_is_a_sentence(call: Caller, tmp_path, change):
    path = call.upload(make_clip(tmp_path / "a.mp4", frames=2).read_bytes(), "a.mp4")
    good = {"path": path, "checkpoint": "", "decoder_layers": 6, "threshold": 0.5}
    check_refusal(call("video", {**good, **change}))


@pytest.mark.parametrize("function", ["video_state", "cancel_video"])
@pytest.mark.parametrize("data", [None, {}, {"id": 5}, {"id": "nope"}, {"id": "../.."}])
def test_every_hostile_question_about_a_video_is_a_sentence(call: Caller, function, data):
    check_refusal(call(function, data))


def test_jobs_are_bounded_in_number_and_leave_no_files(tiny: Path, tmp_path):
    detector = Detector.load("tiny", tiny)
    clip = make_clip(tmp_path / "clip.mp4", frames=300, size=(64, 48), sound=None)
    scratch = Scratch(tmp_path)
    jobs = Jobs(scratch, "videos", running=1, kept=2)

    def work(source: Path):
        def run(job: Job) -> Summary:
            def tell(progress: Progress) -> None:
                job.progress = progress

            return process(source, job.folder, detector, Options(), tell, job.stop)

        return run

    first = jobs.start(work(clip), "visitor")
    with pytest.raises(Busy, match="Try again"):
        jobs.start(work(clip), "visitor")
    while first.progress is None:
        time.sleep(0.01)
    first.stop.set()
    assert first.thread
    first.thread.join(10)
    assert look(first.folder / "annotated.mp4")["times"]
    letter = tmp_path / "letter.mp4"
    letter.write_text("no video")
    failed = jobs.start(work(letter), "visitor")
    assert failed.thread
    failed.thread.join(10)
    assert "video format" in failed.error
    assert not failed.folder.exists()
    third = jobs.start(work(clip), "visitor")
    with pytest.raises(Expired):
        jobs.get(first.id)
    assert not first.folder.exists()
    jobs.close()
    assert not third.running
    assert not (scratch.path / "videos").exists()
