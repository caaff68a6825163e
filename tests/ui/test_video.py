"""The video tab in a real browser, and the work behind it."""

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from rtdetr_demo.errors import Busy, Expired
from rtdetr_demo.model.detector import Detector
from rtdetr_demo.serving.jobs import Job, Jobs
from rtdetr_demo.serving.scratch import Scratch
from rtdetr_demo.video.options import FILES, Options, Progress, Summary
from rtdetr_demo.video.runner import process
from tests.serving.test_service import Caller, check_refusal
from tests.support.app import App
from tests.support.visitor import Visitor
from tests.video.test_pipeline import look, make_clip


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_a_clip_goes_in_and_an_annotated_one_comes_out(browser: Browser, app: App, tmp_path, size):
    visitor = Visitor(browser, app.url, size)
    page = visitor.page
    page.get_by_role("tab", name="Video").click()
    page.locator("#video-stride").select_option("2")
    page.set_input_files(".rt-video input[type=file]", make_clip(tmp_path / "clip.mp4"))
    expect(page.locator(".rt-outcome-text")).to_have_text("Done: 20 frames.", timeout=60_000)
    expect(page.locator(".rt-video video")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    for name, link in zip(FILES, page.locator(".rt-video .rt-downloads a").all(), strict=True):
        with page.expect_download() as caught:
            link.click()
        assert caught.value.suggested_filename == name
        assert Path(caught.value.path()).stat().st_size > 0
    assert page.locator(".rt-seen path").count() >= 1
    visitor.close()


def test_the_example_shows_cows_that_keep_their_numbers(browser: Browser, bundled_app: App):
    """A clip end to end, with the checkpoint that ships."""
    visitor = Visitor(browser, bundled_app.url)
    page = visitor.page
    page.get_by_role("tab", name="Video").click()
    page.get_by_role("button", name="Try the example").click()
    expect(page.locator(".rt-outcome-text")).to_have_text("Done: 96 frames.", timeout=120_000)
    with page.expect_download() as caught:
        page.get_by_role("link", name="JSON lines").click()
    lines = [json.loads(line) for line in Path(caught.value.path()).read_text().splitlines()]
    assert len(lines) == 96
    lives: Counter[int] = Counter()
    for line in lines:
        lives.update(one["id"] for one in line["detections"] if one["label"] == "cow")
    assert lives
    assert max(lives.values()) > 60  # one is followed for most of the clip
    with page.expect_download() as caught:
        page.get_by_role("link", name="Video").click()
    seen = look(Path(caught.value.path()))
    assert (seen["codec"], seen["pixels"], len(seen["times"])) == ("h264", "yuv420p", 96)
    assert seen["times"][-1] == pytest.approx(95 / 12, abs=0.01)
    visitor.close()


def test_cancel_leaves_what_is_done_and_progress_is_told(browser: Browser, app: App, tmp_path):
    visitor = Visitor(browser, app.url)
    page = visitor.page
    page.get_by_role("tab", name="Video").click()
    clip = make_clip(tmp_path / "long.mp4", frames=2000, size=(64, 48), sound=None)
    page.set_input_files(".rt-video input[type=file]", clip)
    told = page.locator(".rt-video-told")
    expect(told).to_have_text(
        re.compile(r"\d+ of 2000 frames, [\d.]+ FPS, .* left"), timeout=30_000
    )
    expect(page.locator(".rt-preview")).to_be_visible()
    page.locator(".rt-video .rt-cancel").click()
    expect(page.locator(".rt-outcome-text")).to_have_text(re.compile(r"Cancelled: \d+ frames"))
    visitor.close()


def test_a_file_that_is_no_video_is_a_sentence(browser: Browser, app: App, tmp_path):
    letter = tmp_path / "letter.mp4"
    letter.write_text("No pictures here.")
    visitor = Visitor(browser, app.url)
    visitor.page.get_by_role("tab", name="Video").click()
    visitor.page.set_input_files(".rt-video input[type=file]", letter)
    problem = visitor.page.locator(".rt-video .rt-problem")
    expect(problem).to_contain_text("no video that can be opened", timeout=30_000)
    visitor.close()


@pytest.fixture(scope="module")
def call(app: App) -> Caller:
    return Caller(app, "video")


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
    check_refusal(call("start", {**good, **change}))


@pytest.mark.parametrize("function", ["state", "cancel"])
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

    first = jobs.start(work(clip))
    with pytest.raises(Busy, match="Try again"):
        jobs.start(work(clip))
    while first.progress is None:
        time.sleep(0.01)
    first.stop.set()
    assert first.thread
    first.thread.join(10)
    assert look(first.folder / "annotated.mp4")["times"]
    letter = tmp_path / "letter.mp4"
    letter.write_text("no video")
    failed = jobs.start(work(letter))
    assert failed.thread
    failed.thread.join(10)
    assert "no video" in failed.error
    assert not failed.folder.exists()
    third = jobs.start(work(clip))
    with pytest.raises(Expired):
        jobs.get(first.id)
    assert not first.folder.exists()
    jobs.close()
    assert not third.running
    assert not (scratch.path / "videos").exists()
