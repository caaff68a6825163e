"""The checkpoint's pill and sheet in a real browser."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.app import App
from tests.support.models import random_model, save, small
from tests.support.standin import HubStandIn
from tests.support.visitor import Visitor


@pytest.mark.alone
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


def test_what_was_published_and_what_is_ours_stand_side_by_side(browser: Browser, bundled_app: App):
    visitor = Visitor(browser, bundled_app.url)
    expect(visitor.page.locator(".pill")).to_contain_text("Bundled · 20 classes")
    visitor.page.locator(".pill").click()
    sheet = visitor.page.locator("rt-checkpoint-sheet")
    best = sheet.locator(".item", has=visitor.page.locator("[value='PekingU/rtdetr_r101vd']"))
    expect(best).to_contain_text("54.3 AP")
    expect(best).to_contain_text("74 FPS")
    bundled = sheet.locator(".item", has=visitor.page.locator("[value=bundled]"))
    expect(bundled).to_contain_text(re.compile(r"AP by depth: (\d+\.\d, ){5}\d+\.\d"))
    visitor.close()


def test_speed_is_measured_here_and_a_deeper_cut_never_costs_less(
    browser: Browser, bundled_app: App
):
    visitor = Visitor(browser, bundled_app.url)
    visitor.wait_for("s.status?.latency && !s.status.measuring", 120)
    ladder = visitor.page.locator("rt-ladder")
    expect(ladder.locator(".where")).to_contain_text("Measured on this CPU")
    expect(ladder.locator(".segments")).to_contain_text("backbone")
    shown = []
    for depth in range(1, 7):
        visitor.slide("depth", depth)
        shown.append(float(ladder.locator(".big output").inner_text()))
        saved = ladder.locator(".saved").inner_text()
        assert re.fullmatch(r"−[\d.]+ ms|≈ 0 ms|Full depth", saved), saved
    assert shown == sorted(shown)
    visitor.close()


@pytest.mark.slow
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
        try:
            visitor = Visitor(browser, app.url)
            page = visitor.page
            visitor.wait_for("s.status?.notice.includes('serves instead') && !s.status.searching")
            expect(page.locator(".pill .dot")).to_have_attribute("data-state", "away")
            page.locator(".pill").click()
            sheet = page.locator("rt-checkpoint-sheet")
            notice = sheet.locator(".notice")
            expect(notice).to_contain_text("Using the bundled checkpoint instead")
            sheet.get_by_role("button", name="Try again").click()
            expect(notice).to_contain_text("no public model")

            hub.behave = "slow"
            sheet.get_by_role("button", name="Try again").click()
            expect(notice).to_have_text("Downloading owner/tiny:", timeout=15_000)
            expect(sheet.locator(".amount")).to_have_text(re.compile(r"\d+ of \d+ MB, \d+%"))
            sheet.get_by_role("button", name="Cancel").click()
            expect(sheet.locator(".detail")).to_contain_text("cancelled", timeout=15_000)
            hub.behave = "ok"
            sheet.get_by_role("button", name="Try again").click()
            visitor.wait_for_checkpoint("owner/tiny")
            expect(page.locator(".pill .dot")).to_have_attribute("data-state", "ok")

            sheet.locator("[value='PekingU/rtdetr_r18vd']").check()
            sheet.get_by_role("button", name="Download").click()
            visitor.wait_for_checkpoint("PekingU/rtdetr_r18vd")
            assert visitor.state("[s.depth, s.result.depth]") == [3, 3]
            page.wait_for_url("**checkpoint=PekingU**")

            sheet.locator(".custom input").fill(str(tiny))
            sheet.locator(".custom button").click()
            visitor.wait_for("s.result.depth === 6 && !s.busy")
            visitor.close()
        finally:
            app.stop()
        assert "Traceback" not in app.printed
