"""What live viewers get: `python tests/load/live_load.py [--viewers 10] [--seconds 60]`.

First one viewer against the detector alone in a loop, by turns in one run; then many viewers at
once, with how many frames each was served and what memory that took. Frames are 640x480 JPEG.
"""

import argparse
import io
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from PIL import Image

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.detector import Detector
from tests.support.app import App
from tests.support.frames import message, picture, watching
from tests.support.processes import seconds_of_cpu


def per_second(run: Callable[[], object], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        run()
        count += 1
    return count / (time.perf_counter() - began)


def one_viewer(app: App, seconds: float) -> None:
    detector = Detector.load("bundled", BUNDLED_FOLDER)
    print("alone:", "OpenVINO" if detector.accelerate() else "PyTorch")
    image = Image.open(io.BytesIO(picture())).convert("RGB")
    outside = list[float]()
    with watching(app) as ask:
        _by_turns(detector, image, ask, outside, seconds)


def _by_turns(
    detector: Detector,
    image: Image.Image,
    ask: Callable[[bytes], dict],
    outside: list[float],
    seconds: float,
) -> None:
    def served() -> None:
        began = time.perf_counter()
        answer = ask(message())
        outside.append(1000 * (time.perf_counter() - began) - answer["timing_ms"]["total"])

    for _ in range(10):
        served()
        detector.detect(image, every_layer=False)
    outside.clear()
    shares = []
    for _ in range(5):
        alone = per_second(lambda: detector.detect(image, every_layer=False), seconds / 10)
        live = per_second(served, seconds / 10)
        shares.append(live / alone)
        print(f"alone {alone:.1f} FPS, live {live:.1f} FPS: {live / alone:.0%}")
    print(f"median share {statistics.median(shares):.0%}")
    print(f"outside the detector: median {statistics.median(outside):.1f} ms")


def many_viewers(app: App, viewers: int, seconds: float) -> None:
    counts, waits = [0] * viewers, list[float]()
    end = time.monotonic() + seconds

    def watch(number: int) -> None:
        # One address has a share of the places.
        with watching(app, source_address=(f"127.0.0.{2 + number}", 0)) as ask:
            while time.monotonic() < end:
                began = time.monotonic()
                answer = ask(message())
                assert "layers" in answer, answer
                counts[number] += 1
                waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(viewers)]
    before, most = app.memory_mb, 0.0
    cpu, began = seconds_of_cpu(app.process.pid), time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, app.memory_mb)
        time.sleep(0.5)
    cpu, took = seconds_of_cpu(app.process.pid) - cpu, time.monotonic() - began
    print(f"the server takes {cpu / took:.2f} cores")
    print(f"{viewers} viewers, {seconds:.0f} s: {sum(counts) / seconds:.1f} frames a second")
    print(f"frames per viewer: {min(counts)} to {max(counts)}; {counts}")
    print(f"wait for a frame: median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s")
    print(f"memory: {before:.0f} MB before, at most {most:.0f} MB, {app.memory_mb:.0f} MB after")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    app = App("--checkpoint", "bundled", HF_HUB_OFFLINE="1", RTDETR_RUNTIME="auto")
    while "now runs on" not in app.printed:
        time.sleep(0.5)
    time.sleep(5)  # it times itself once more
    try:
        one_viewer(app, options.seconds)
        many_viewers(app, options.viewers, options.seconds)
    finally:
        app.stop()
