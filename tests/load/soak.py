"""A soak: pages, API, live frames, video, lab and hostile input at once, then rest.

    .venv/bin/python tests/load/soak.py [--minutes 15]

Prints resident memory, open files, threads, scratch bytes and child processes of the app after
warming up (with every store filled to what it may take) and after the rest, and exits 1 where one
of them has grown by more than 5 percent.
"""

import argparse
import base64
import functools
import io
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from PIL import Image

from tests.support.app import App
from tests.support.caller import Caller
from tests.support.frames import message, watching
from tests.support.paths import EXAMPLES
from tests.support.processes import grown, holdings

REST_SECONDS = 90
DATA_GB = 0.06
FILLERS = 5
"""Visitors who keep as much as one may, a quarter of all: so many fill every store."""

PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()
CLIP = (EXAMPLES / "cows.mp4").read_bytes()


def play(page: Caller) -> None:
    """Send a clip and have it annotated."""
    path = page.upload(CLIP, "cows.mp4")
    options = {"decoder_layers": 1, "threshold": 0.5, "stride": 5}
    wait_for_end(page, "video_state", page("video", {"path": path, **options}))


def wait_for_end(page: Caller, ask: str, job: dict) -> None:
    end = time.monotonic() + 300
    while "id" in job and page(ask, job).get("running") and time.monotonic() < end:
        time.sleep(1)


def fill(app: App) -> None:
    """Have uploads, results and videos take what they may, and pools of threads be full."""
    with ThreadPoolExecutor(16) as pool:  # more at once than there are threads that write files
        callers = [Caller(app.url, address=f"127.0.4.{number + 1}") for number in range(16)]
        list(pool.map(lambda page: page.upload(CLIP, "cows.mp4"), callers))

    def visit(number: int) -> None:
        page = Caller(app.url, address=f"127.0.3.{number + 1}")
        for _ in range(50):
            page("detect", {"path": page.upload(PHOTO)})
        for _ in range(5):
            play(page)

    with ThreadPoolExecutor(2) as pool:  # as many videos as run at once
        list(pool.map(visit, range(FILLERS)))


def visitors(url: str) -> dict[str, Callable[[httpx.Client], object]]:
    """One turn of each kind of visitor."""
    chance = random.Random(0)

    def picture(size: tuple[int, int], form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, "teal").save(buffer, form, **options)
        return buffer.getvalue()

    scans = picture((900, 900), "JPEG", progressive=True)
    last = scans.rindex(b"\xff\xda")
    endless = scans[:last] + scans[last:-2] * 3000 + b"\xff\xd9"
    large = picture((7000, 7000), "PNG")

    def detect(client: httpx.Client, content: bytes) -> httpx.Response:
        return client.post("/v1/detect", content=content, headers={"Content-Type": "image/jpeg"})

    def chat(client: httpx.Client) -> httpx.Response:
        uri = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
        part = {"type": "image_url", "image_url": {"url": uri}}
        message = {"role": "user", "content": [part]}
        return client.post("/v1/chat/completions", json={"model": "bundled", "messages": [message]})

    def page(client: httpx.Client) -> None:
        for path in ("/", "/config", "/docs", "/metrics"):
            client.get(path)

    def upload(client: httpx.Client, name: str, content: bytes) -> httpx.Response:
        return client.post("/gradio_api/upload", files={"files": (name, content)})

    def mutated(client: httpx.Client) -> httpx.Response:
        broken = bytearray(PHOTO)
        for _ in range(20):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        return detect(client, bytes(broken))

    def broken_off(client: httpx.Client) -> None:
        def body():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
            yield CLIP[:200_000]
            raise ConnectionError

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        client.post("/gradio_api/upload", content=body(), headers=headers)

    return {
        "page": page,
        "picture": lambda client: detect(client, PHOTO),
        "chat": chat,
        "upload": lambda client: upload(client, "cows.mp4", CLIP),
        "playlist": lambda client: upload(client, "list.m3u8", b"#EXTM3U\nfile:///etc/passwd\n"),
        "mutated": mutated,
        "endless scans": lambda client: detect(client, endless),
        "49 megapixels": lambda client: detect(client, large),
        "broken off": broken_off,
    }


def at_the_page(app: App) -> dict[str, Callable[[], object]]:
    """One turn of each kind of visitor of the page, through its own server functions."""

    def detection() -> None:
        page = Caller(app.url, address="127.0.2.1")
        result = page("detect", {"path": page.upload(PHOTO)})
        page("detect", {"result": result["id"], "queries": 50, "size": 192})
        page("original", {"result": result["id"]})

    def inside() -> None:
        page = Caller(app.url, address="127.0.2.2")
        question = {"label": "dog", "box": [388, 575, 597, 865], "score": 0.8, "layer": 6}
        page("inspect", {"example": "dogs.jpg", **question})

    def lab() -> None:
        page = Caller(app.url, address="127.0.2.3")
        question = {"example": "dogs.jpg", "rounds": 3, "shapes": False}
        wait_for_end(page, "measured", page("measure", question))

    def video() -> None:
        play(Caller(app.url, address="127.0.2.4"))

    def hostile() -> None:
        page = Caller(app.url, address="127.0.2.5")
        for name in ("detect", "inspect", "measure", "video", "compare", "download"):
            page.raw(name, {"path": "/etc/passwd", "checkpoint": "owner/none", "queries": -1})
        page.raw("__init__", [[]])

    def live() -> None:
        with watching(app, source_address=("127.0.2.6", 0)) as ask:
            for _ in range(30):
                ask(message())

    return {
        "page: detection": detection, "page: inside": inside, "page: lab": lab,
        "page: video": video, "page: hostile": hostile, "live, 30 frames": live,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        os.environ["TMPDIR"] = folder
        app = App("--checkpoint", "bundled", "--data-gb", str(DATA_GB), HF_HUB_OFFLINE="1")
        while httpx.get(app.url + "/readyz").status_code != 200:
            time.sleep(0.5)
        done: Counter[str] = Counter()

        def run(seconds: float) -> None:
            stop = threading.Event()

            def visit(name: str, turn: Callable[[], object]) -> None:
                while not stop.is_set():
                    try:
                        turn()
                        done[name] += 1
                    except (httpx.HTTPError, ConnectionError, TimeoutError) as error:
                        done[f"{name}: {type(error).__name__}"] += 1
                    except Exception as error:
                        done[f"{name}: {error!r:.300}"] += 1
                    stop.wait(0.2)

            client = httpx.Client(base_url=app.url, timeout=120)
            turns = at_the_page(app) | {
                name: functools.partial(turn, client) for name, turn in visitors(app.url).items()
            }
            threads = [threading.Thread(target=visit, args=turn) for turn in turns.items()]
            for thread in threads:
                thread.start()
            time.sleep(seconds)
            stop.set()
            for thread in threads:
                thread.join()
            time.sleep(REST_SECONDS)
            Caller(app.url)("status", {})  # idle threads of a pool end when it is used again
            client.close()

        fill(app)
        run(min(180, 60 * minutes / 3))
        before = holdings(app.process.pid, temporary)
        run(60 * minutes)
        after = holdings(app.process.pid, temporary)
        healthy = app.process.poll() is None and "Traceback" not in app.printed
        app.stop()
    for name, count in sorted(done.items()):
        print(f"{count:6} {name}")
    more = grown(before, after)
    for name, value in after.items():
        print(f"{name:12}{before[name]:10.1f} after warming up{value:10.1f} after the rest")
    print("grown: " + (", ".join(more) or "nothing"), "" if healthy else "(and it is not well)")
    return bool(more) or not healthy


if __name__ == "__main__":
    sys.exit(main())
