"""Fixtures: small random models, a stand-in for the hub, and the app as a stranger would run it."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from transformers import (
    PreTrainedModel,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
)

from standin import HubStandIn

T = TypeVar("T")

REPO = Path(__file__).parents[1]
EXAMPLES = REPO / "examples"
SHARED = REPO.parent / "shared"

NAMES = ["person", "car", "dog", "cat", "<b>bold</b>"]


def random_model(**overrides: object) -> RTDetrForObjectDetection:
    """An RT-DETR with random weights whose scores are spread out, so that thresholds bite."""
    torch.manual_seed(1)
    config = RTDetrConfig(**overrides)
    names = NAMES + [f"class {i}" for i in range(len(NAMES), config.num_labels)]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    model = RTDetrForObjectDetection(config).eval()
    with torch.no_grad():
        for head in model.model.decoder.class_embed:
            head.weight.normal_(0, 0.2)
            head.bias.fill_(-1.0)
        for head in model.model.decoder.bbox_embed:
            head.layers[-1].weight.normal_(0, 0.05)
    return model


def small(**overrides: object) -> dict:
    """Settings of an RT-DETR that is small enough for a test, six layers and 300 queries deep."""
    return {
        "num_labels": len(NAMES),
        "backbone_config": RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        "encoder_in_channels": [16, 24, 32],
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_attention_heads": 4,
        "d_model": 32,
        "num_denoising": 0,
        **overrides,
    }


def save(model: PreTrainedModel, folder: Path, size: int) -> Path:
    model.save_pretrained(folder)
    RTDetrImageProcessorPil(
        do_normalize=False, size={"height": size, "width": size}
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small RT-DETR: six decoder layers, 300 queries, random weights."""
    model = random_model(**small())
    return save(model, tmp_path_factory.mktemp("tiny"), 160)


@pytest.fixture(scope="session")
def random_r50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an RT-DETR R50 of the published architecture, random weights."""
    return save(random_model(num_labels=80), tmp_path_factory.mktemp("r50"), 640)


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    return Image.open(sorted(EXAMPLES.glob("*.jpg"))[0]).convert("RGB")


@pytest.fixture
def noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A stand-in hub with one model, `owner/tiny`; this process asks it, with an empty cache."""
    with HubStandIn({"owner/tiny": tiny}) as server:
        # What HF_ENDPOINT and HF_HUB_CACHE would have set, had this process begun with them.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, whatever loop (the browser's) holds this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class App:
    """`python app.py` in a process of its own, with what it printed; on PyTorch alone, as the
    faster runtimes take the CPU for a while when they are made ready."""

    def __init__(self, *arguments: str, port: int | None = None, **environ: str):
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.checkpoint = Path(arguments[arguments.index("--checkpoint") + 1]).name
        self.lines: list[str] = []
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(self.port), *arguments],
            cwd=REPO,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "RTDETR_RUNTIME": "torch", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        while not self._answers():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() - began < 60, self.printed
            time.sleep(0.1)
        self.seconds_to_answer = time.monotonic() - began

    @property
    def printed(self) -> str:
        return "".join(self.lines)

    @property
    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", status)
        assert match
        return int(match[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def _listen(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="session")
def app(tiny: Path) -> Iterator[App]:
    """The app on the small model, with the loopback address open to picture URLs."""
    running = App("--checkpoint", str(tiny), "--allowed-hosts", "127.0.0.1", HF_HUB_OFFLINE="1")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def bundled_app() -> Iterator[App]:
    """The app on the checkpoint that ships with it, as on a machine without a hub."""
    running = App("--checkpoint", "bundled", HF_HUB_OFFLINE="1")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def camera_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a pan over a photograph of people, as the camera of the browser below."""
    clip = tmp_path_factory.mktemp("camera") / "camera.y4m"
    people = Image.open(EXAMPLES / "musicians.jpg").convert("RGB").resize((900, 600))
    with clip.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for step in range(60):
            view = people.crop((4 * step, 60, 4 * step + 640, 540)).convert("YCbCr")
            planes = np.asarray(view)
            file.write(b"FRAME\n" + planes[..., 0].tobytes())
            file.write(planes[::2, ::2, 1].tobytes() + planes[::2, ::2, 2].tobytes())
    return clip


@pytest.fixture(scope="session")
def browser(camera_clip: Path) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={camera_clip}",
            ],
        )
        yield browser
        browser.close()
