"""A headless Chromium whose camera shows people."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Playwright

from tests.support.paths import EXAMPLES


def camera_clip(folder: Path) -> Path:
    """Two seconds of a pan over a photograph of people, written into `folder`."""
    clip = folder / "camera.y4m"
    people = Image.open(EXAMPLES / "musicians.jpg").convert("RGB").resize((900, 600))
    with clip.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for step in range(60):
            view = people.crop((4 * step, 60, 4 * step + 640, 540)).convert("YCbCr")
            planes = np.asarray(view)
            file.write(b"FRAME\n" + planes[..., 0].tobytes())
            file.write(planes[::2, ::2, 1].tobytes() + planes[::2, ::2, 2].tobytes())
    return clip


def launch(playwright: Playwright, clip: Path) -> Browser:
    """The browser, with `clip` as its camera."""
    return playwright.chromium.launch(
        executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
        args=[
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={clip}",
        ],
    )
