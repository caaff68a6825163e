"""Detection on the visitor's own device agrees with the server's."""

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, expect
from transformers import RTDetrResNetConfig

from rtdetr_demo.detector.browser_export import WORTH_HALVING
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.media.images import read_picture
from tests.support.app import App
from tests.support.models import random_model, save
from tests.support.paths import EXAMPLES, REPO
from tests.support.visitor import Visitor

LIB = REPO / "rtdetr_demo" / "ui" / "static" / "lib"
THRESHOLD = 0.3


def in_node(script: str, *arguments: object) -> None:
    command = ["node", "--input-type=module", "-e", script, "--", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((640, 480), (256, 256)),
        ((1023, 771), (640, 640)),
        ((256, 300), (256, 256)),
        ((90, 257), (256, 256)),
        ((3, 1), (160, 160)),
    ],
)
def test_a_picture_is_resized_as_pillow_does_it(
    tmp_path: Path, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    pixels.tofile(tmp_path / "in")
    in_node(
        """
        import { readFileSync, writeFileSync } from "node:fs";
        const [lib, from, to, ...sizes] = process.argv.slice(1);
        const { resize } = await import(lib);
        writeFileSync(to, resize(new Uint8Array(readFileSync(from)), ...sizes.map(Number)));
        """,
        LIB / "preprocess.js",
        tmp_path / "in",
        tmp_path / "out",
        *size,
        *wanted,
    )
    found = np.fromfile(tmp_path / "out", np.uint8).reshape(*wanted[::-1], 3)
    expected = Image.fromarray(pixels[..., :3].copy()).resize(wanted, Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(expected))


def on_device(visitor: Visitor) -> None:
    """Choose this device, and fetch what it needs."""
    visitor.page.locator("rt-runtime [value=device]").check(force=True)
    visitor.wait_for("s.status !== null", 60)
    if not visitor.state("s.status.here"):
        visitor.page.locator("rt-runtime .get").click()
    visitor.wait_for("s.status?.here && !s.status.download?.running", 120)
    visitor.wait_for("s.result?.settings.runtime.startsWith('this device') && !s.busy", 120)


def detect(visitor: Visitor, picture: Path) -> Any:
    visitor.upload(picture, 120)  # at 640 pixels a pass takes seconds, on busy cores many
    assert visitor.state("s.problem") == ""
    return visitor.state("s.result.predictions")


def disagreements(detector: Detector, picture: Path, found: Any) -> list[str]:
    """What a browser's predictions say otherwise than the detector's, at any depth."""
    image = read_picture(picture)
    expected = detector.detect(image)
    assert (found["width"], found["height"]) == image.size
    near = 0.01 * max(image.size)
    wrong = []
    for layer, ours in enumerate(found["layers"]):
        kept = [i for i, score in enumerate(ours["scores"]) if score > THRESHOLD - 0.01]
        boxes = np.array(ours["boxes"]).reshape(-1, 4)
        for theirs in expected.select(layer + 1, THRESHOLD + 0.01):
            apart = np.abs(boxes - np.array(theirs[3:])).max(axis=1)
            alike = [
                i
                for i in kept
                if found["classes"][ours["labels"][i]] == theirs.label
                and abs(ours["scores"][i] - theirs.score) < 0.01
                and apart[i] < near
            ]
            if alike:
                kept.remove(min(alike, key=lambda i: apart[i]))
            else:
                wrong.append(f"{picture.name}, layer {layer + 1}: {theirs}")
        extra = [ours["scores"][i] for i in kept if ours["scores"][i] > THRESHOLD + 0.01]
        wrong += [f"{picture.name}, layer {layer + 1}: one more, {score:.3f}" for score in extra]
    return wrong


@pytest.mark.slow
def test_every_example_gives_the_servers_detections_at_every_depth(
    browser: Browser, bundled_app: App
) -> None:
    from rtdetr_demo.checkpoints.loading import load

    detector = load("bundled")
    visitor = Visitor(browser, bundled_app.url)
    on_device(visitor)
    wrong = []
    for picture in sorted(EXAMPLES.glob("*.jpg")):
        wrong += disagreements(detector, picture, detect(visitor, picture))
    assert wrong == []
    visitor.close()


def test_the_device_detects_as_the_server_does(browser: Browser, bundled_app: App) -> None:
    from rtdetr_demo.checkpoints.loading import load

    visitor = Visitor(browser, bundled_app.url)
    visitor.page.locator("rt-runtime [value=device]").check(force=True)
    words = visitor.page.locator("rt-runtime .words")
    expect(words).to_have_text(re.compile(r"one-time download of 1[5-7]\.\d MB"), timeout=60_000)
    on_device(visitor)
    picture = EXAMPLES / "dogs.jpg"
    assert disagreements(load("bundled"), picture, detect(visitor, picture)) == []
    visitor.wait_for("s.status?.latency?.device === 'device'", 60)
    expect(visitor.page.locator("rt-ladder .where")).to_contain_text("your device, WebAssembly")

    # The second visit, by a link to an example, downloads nothing.
    fetched: list[str] = []
    visitor.page.on("request", lambda request: fetched.append(request.url))
    visitor.open(bundled_app.url + "?example=horses.jpg&runtime=device")
    visitor.wait_for("s.result?.settings.runtime.startsWith('this device') && !s.busy", 60)
    assert [url for url in fetched if url.endswith((".onnx", ".gz"))] == []
    visitor.close()


@pytest.mark.load
def test_a_worker_that_dies_is_started_again_once(browser: Browser, bundled_app: App) -> None:
    visitor = Visitor(browser, "")
    visitor.context.add_init_script(
        """
        const Real = Worker;
        window.workers = 0;
        window.deaths = 0; // of workers, each in its next pass
        window.Worker = class extends Real {
          constructor(...given) { super(...given); workers++; }
          postMessage(message, ...more) {
            super.postMessage(message, ...more);
            if (message.detect && deaths && deaths--) this.dispatchEvent(new ErrorEvent("error"));
          }
        };
        """
    )
    visitor.open(bundled_app.url)
    on_device(visitor)
    visitor.wait_for("s.status?.latency?.device === 'device'", 60)

    def after(deaths: int) -> str:
        """The problem that the page shows, when workers have died in a pass so often."""
        again = "async (a, deaths) => { window.deaths = deaths; await a.app.actions.again(); }"
        visitor.page.locator("rt-app").evaluate(again, deaths)
        return visitor.state("s.problem")

    assert after(1) == ""
    assert visitor.page.evaluate("workers") == 2
    assert "stopped twice" in after(2)
    assert after(0) == ""
    visitor.close()


@pytest.mark.load
def test_a_download_can_be_cancelled_and_begun_again(browser: Browser, bundled_app: App) -> None:
    visitor = Visitor(browser, bundled_app.url)
    page = visitor.page
    # The first stage hangs until it is cancelled.
    page.context.route("**/encoder-*.onnx", lambda route: None, times=1)
    page.locator("rt-runtime [value=device]").check(force=True)
    page.locator("rt-runtime .get").click(timeout=60_000)
    expect(page.locator("rt-runtime .words")).to_contain_text(" MB, 2")
    page.locator("rt-runtime .cancel").click()
    expect(page.locator("rt-runtime .words")).to_have_text("The download was cancelled.")
    on_device(visitor)
    visitor.close()


@pytest.mark.slow
def test_a_published_architecture_agrees_at_its_own_size(browser: Browser, tmp_path: Path) -> None:
    settings = RTDetrResNetConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    model = random_model(
        num_labels=80,
        backbone_config=settings,
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
    )
    # Random queries score alike. With one class that leads, the 300 that are kept are one of each
    # query; else rounding would decide which of thousands of ties are kept.
    with torch.no_grad():
        for head in model.model.decoder.class_embed:
            head.weight.normal_(0, 0.05)
            head.bias.fill_(-9)
            head.bias[0] = 1
    folder = save(model, tmp_path / "r18", 640)
    running = App("--checkpoint", str(folder), HF_HUB_OFFLINE="1")
    try:
        visitor = Visitor(browser, running.url)
        on_device(visitor)
        picture = EXAMPLES / "cat.jpg"
        detector = Detector.load("r18", folder)
        # The browser's weights are in half precision. Among thousands of random tokens that score
        # alike, rounding alone changes which are the best 300: so both get the rounded ones here.
        # (What rounding does to a trained checkpoint is tested on the bundled one.)
        with torch.no_grad():
            for weight in (*detector.model.parameters(), *detector.model.buffers()):
                if weight.is_floating_point() and weight.numel() >= WORTH_HALVING:
                    weight.copy_(weight.half().float())
        assert disagreements(detector, picture, detect(visitor, picture)) == []
        visitor.close()
    finally:
        running.stop()
