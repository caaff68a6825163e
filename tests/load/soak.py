"""A soak: pages, API, live frames, video, lab and hostile input at once, then rest.

    .venv/bin/python tests/load/soak.py [--minutes 15]

Prints resident memory, open files, threads, scratch bytes and child processes of the app after
warming up and after the rest, and exits 1 where one of them has grown by more than 5 percent.
"""

import argparse
import base64
import io
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
from PIL import Image

from tests.support.app import App
from tests.support.paths import EXAMPLES

REST_SECONDS = 90
ALLOWED = {"memory MB": 30, "files": 8, "threads": 4, "scratch MB": 5, "children": 0}
"""What any of them may grow beside the 5 percent, where 5 percent are less than one of a kind."""


def children(pid: int) -> list[int]:
    """Every descendant of a process."""
    direct = [
        int(one)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for one in (task / "children").read_text().split()
    ]
    return [*direct, *(far for one in direct for far in children(one))]


def look(pid: int, temporary: Path) -> dict[str, float]:
    """What the app holds."""
    family = [pid, *children(pid)]
    status = Path(f"/proc/{pid}/status").read_text()
    resident = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family)
    files = (path for path in temporary.rglob("*") if path.is_file())
    return {
        "memory MB": resident * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(re.findall(r"Threads:\s+(\d+)", status)[0]),
        "scratch MB": sum(path.stat().st_size for path in files) / 1e6,
        "children": len(family) - 1,
    }


def visitors(url: str) -> dict[str, Callable[[httpx.Client], object]]:
    """One turn of each kind of visitor."""
    photo = (EXAMPLES / "dogs.jpg").read_bytes()
    clip = (EXAMPLES / "cows.mp4").read_bytes()
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
        uri = "data:image/jpeg;base64," + base64.b64encode(photo).decode()
        part = {"type": "image_url", "image_url": {"url": uri}}
        message = {"role": "user", "content": [part]}
        return client.post("/v1/chat/completions", json={"model": "bundled", "messages": [message]})

    def page(client: httpx.Client) -> None:
        for path in ("/", "/config", "/docs", "/metrics"):
            client.get(path)

    def upload(client: httpx.Client, name: str, content: bytes) -> httpx.Response:
        return client.post("/gradio_api/upload", files={"files": (name, content)})

    def mutated(client: httpx.Client) -> httpx.Response:
        broken = bytearray(photo)
        for _ in range(20):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        return detect(client, bytes(broken))

    def broken_off(client: httpx.Client) -> None:
        def body():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
            yield clip[:200_000]
            raise ConnectionError

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        client.post("/gradio_api/upload", content=body(), headers=headers)

    return {
        "page": page,
        "picture": lambda client: detect(client, photo),
        "chat": chat,
        "upload": lambda client: upload(client, "cows.mp4", clip),
        "playlist": lambda client: upload(client, "list.m3u8", b"#EXTM3U\nfile:///etc/passwd\n"),
        "mutated": mutated,
        "endless scans": lambda client: detect(client, endless),
        "49 megapixels": lambda client: detect(client, large),
        "broken off": broken_off,
    }


def video(stop: threading.Event, temporary: Path, done: Counter) -> None:
    """Clip after clip, in a process of its own, as the video source does it."""
    import subprocess

    while not stop.is_set():
        out = temporary / "out.mp4"
        command = [sys.executable, "-m", "rtdetr_demo", "video", str(EXAMPLES / "cows.mp4")]
        subprocess.run([*command, str(out), "--layers", "1", "--stride", "5"], capture_output=True)
        done["video"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        os.environ["TMPDIR"] = folder
        app = App("--checkpoint", "bundled", "--data-gb", "0.1", HF_HUB_OFFLINE="1")
        while httpx.get(app.url + "/readyz").status_code != 200:
            time.sleep(0.5)
        done: Counter[str] = Counter()
        turns = visitors(app.url)

        def run(seconds: float, with_video: bool) -> None:
            stop = threading.Event()

            def visit(name: str) -> None:
                with httpx.Client(base_url=app.url, timeout=120) as client:
                    while not stop.is_set():
                        try:
                            turns[name](client)
                            done[name] += 1
                        except (httpx.HTTPError, ConnectionError):
                            done[f"{name} failed"] += 1
                        stop.wait(0.2)

            threads = [threading.Thread(target=visit, args=(name,)) for name in turns]
            if with_video:
                threads.append(threading.Thread(target=video, args=(stop, temporary, done)))
            for thread in threads:
                thread.start()
            time.sleep(seconds)
            stop.set()
            for thread in threads:
                thread.join()
            time.sleep(REST_SECONDS)

        run(min(120, 60 * minutes / 3), False)
        before = look(app.process.pid, temporary)
        run(60 * minutes, True)
        after = look(app.process.pid, temporary)
        healthy = app.process.poll() is None and "Traceback" not in app.printed
        app.stop()
    print(dict(done))
    grown = [
        name
        for name, value in after.items()
        if value > before[name] * 1.05 and value - before[name] > ALLOWED[name]
    ]
    for name, value in after.items():
        print(f"{name:12}{before[name]:10.1f} after warming up{value:10.1f} after the rest")
    print("grown: " + (", ".join(grown) or "nothing"), "" if healthy else "(and it is not well)")
    return bool(grown) or not healthy


if __name__ == "__main__":
    sys.exit(main())
