"""Damaged pictures and clips by the thousand: a detection or a sentence, and the server as before.

bash tests/run.sh --all -n 0 tests/hostile/test_fuzz.py -s     # prints what was sent, and what came
"""

import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pillow_heif
import pytest
from PIL import Image

from tests.support.app import App
from tests.support.caller import Caller
from tests.support.clips import make_clip
from tests.support.paths import EXAMPLES
from tests.support.processes import grown, holdings

SEED = 0
PICTURES = 3000
CLIPS = 120
SENDERS = 8
REST_SECONDS = 30

pytestmark = pytest.mark.slow


def whole_pictures() -> dict[str, bytes]:
    """One picture in each form that is read, and in the variants that take other paths."""
    photo = Image.open(EXAMPLES / "dogs.jpg").convert("RGB").resize((160, 120))
    exif = Image.Exif()
    exif[0x0112] = 6
    variants: dict[str, tuple[Image.Image, str, dict]] = {
        "jpeg": (photo, "JPEG", {"exif": exif}),
        "progressive": (photo, "JPEG", {"progressive": True}),
        "cmyk": (photo.convert("CMYK"), "JPEG", {}),
        "png": (photo, "PNG", {}),
        "alpha": (photo.convert("RGBA"), "PNG", {}),
        "palette": (photo.quantize(64), "PNG", {}),
        "16 bits": (photo.convert("L").convert("I;16"), "PNG", {}),
        "gif": (photo.quantize(64), "GIF", {"save_all": True, "append_images": [photo] * 3}),
        "webp": (photo, "WEBP", {}),
        "lossless": (photo, "WEBP", {"lossless": True}),
        "tiff": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "bmp": (photo, "BMP", {}),
        "avif": (photo, "AVIF", {}),
    }
    found = {}
    for name, (image, form, options) in variants.items():
        content = io.BytesIO()
        image.save(content, form, **options)
        found[name] = content.getvalue()
    content = io.BytesIO()
    pillow_heif.from_pillow(photo).save(content)
    return found | {"heic": content.getvalue()}


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut, doubled, moved, or numbers blown up, once or several times."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        # Headers say the most: half of the damage is done in the first kilobyte.
        near = min(len(content), 1024) if chance.random() < 0.5 else len(content)
        at, length = chance.randrange(max(near, 1)), chance.randrange(1, 64)
        match chance.randrange(6):
            case 0:
                content[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                content[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + length]
            case 4:
                content[at:at] = chance.randbytes(length)
            case 5 if chance.random() < 0.1:
                del content[at:]
    return bytes(content)


@pytest.fixture(scope="module")
def server(tiny: Path) -> Iterator[App]:
    app = App("--checkpoint", str(tiny), "--data-gb", "0.03", HF_HUB_OFFLINE="1")
    while httpx.get(f"{app.url}/readyz").status_code != 200:
        time.sleep(0.2)
    yield app
    app.stop()


def rested(app: App) -> dict[str, float]:
    """What it holds after a while in which nobody asks for anything."""
    time.sleep(REST_SECONDS)
    scratch = Path(Caller(app.url).upload(b"x")).parents[3]
    return holdings(app.process.pid, scratch)


def bombard(
    app: App, whole: list[bytes], send: Callable[[bytes], None], count: int, senders: int
) -> None:
    """Send so many damaged ones, and check that the app is as it was after the first tenth."""
    chance = random.Random(SEED)

    def send_all(count: int) -> None:
        contents = [damaged(chance.choice(whole), chance) for _ in range(count)]
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(send, contents))

    send_all(count // 10)
    before = rested(app)
    send_all(count)
    after = rested(app)
    print(f"\n{count} sent; {json.dumps([before, after])}")
    assert grown(before, after) == []
    assert app.process.poll() is None
    assert "Traceback" not in app.printed


def test_damaged_pictures(server: App):
    whole = list(whole_pictures().values())
    line = httpx.Client(base_url=server.url, timeout=120)
    came: Counter[str] = Counter()

    def send(content: bytes) -> None:
        answer = line.post("/v1/detect", content=content, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code in (200, 413, 415, 422), answer.text
        if answer.status_code == 200:
            assert "detections" in answer.json()
        else:
            assert answer.json()["error"]["message"].endswith(".")
        came[str(answer.status_code)] += 1

    for content in whole:
        send(content)
    assert came == {"200": len(whole)}
    bombard(server, whole, send, PICTURES, SENDERS)
    print(f"{came.total()} pictures: {dict(came)}")
    assert came.total() - came["200"] > PICTURES / 10


def test_damaged_clips(server: App, tmp_path: Path):
    whole = [
        make_clip(tmp_path / name, frames=8, size=(96, 64), codec=codec, sound=sound).read_bytes()
        for name, codec, sound in [
            ("a.mp4", "libx264", "aac"), ("a.mov", "mpeg4", None), ("a.webm", "libvpx", None),
            ("a.mkv", "libx264", "aac"), ("a.avi", "mpeg4", "mp3"),
        ]
    ]  # fmt: skip
    page = Caller(server.url)
    came: Counter[str] = Counter()

    def send(content: bytes) -> None:
        settings = {"decoder_layers": 1, "threshold": 0.5}
        path = page.upload(content, "clip.mp4")
        while "As many" in (job := page("video", {"path": path, **settings})).get("error", ""):
            time.sleep(0.2)  # two at a time
        while "id" in job and (state := page("video_state", {"id": job["id"]})).get("running"):
            time.sleep(0.1)
        answer = state if "id" in job else job
        assert "error" in answer or answer["frames"] >= 1, answer
        assert "Something went wrong" not in answer.get("error", ""), answer
        came["refused" if "error" in answer else "played"] += 1

    for content in whole:
        send(content)
    assert came == {"played": len(whole)}
    bombard(server, whole, send, CLIPS, senders=2)
    print(f"{came.total()} clips: {dict(came)}")
    assert came["refused"] > CLIPS / 10
