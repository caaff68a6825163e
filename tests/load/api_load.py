"""The API under load, and the detector alone in a loop: `.venv/bin/python tests/load/api_load.py`.

Needs wrk (`apt-get install wrk`). Turns between the two are short and alternate, as the machine's
speed changes while it is shared; then comes one long run, with the memory before, during and after.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx
from PIL import Image, ImageOps

from tests.support.app import App
from tests.support.paths import EXAMPLES, REPO

SCRIPT = """
local file = io.open("{picture}", "rb")
wrk.body = file:read("*all")
wrk.method = "POST"
wrk.headers["Content-Type"] = "image/jpeg"
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init(args) statuses = "" ; counts = {{}} end
function response(status)
  counts[status] = (counts[status] or 0) + 1
  statuses = ""
  for code, count in pairs(counts) do statuses = statuses .. code .. ":" .. count .. " " end
end
function done(summary, latency, requests)
  local told = {{}}
  for _, thread in ipairs(threads) do table.insert(told, thread:get("statuses")) end
  local function ms(us) return string.format("%.1f", us / 1000) end
  io.write('RESULT {{"statuses": "' .. table.concat(told) .. '", "seconds": ' ..
    summary.duration / 1e6 .. ', "p50": ' .. ms(latency:percentile(50)) .. ', "p99": ' ..
    ms(latency:percentile(99)) .. ', "max": ' .. ms(latency.max) .. '}}\\n')
end
"""

ALONE = """
import os, sys, time
from PIL import Image
from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.detector import Detector
detector = Detector.load("bundled", BUNDLED_FOLDER)
detector.accelerate()
image = Image.open(sys.argv[1]).convert("RGB")
for _ in range(10):
    detector.detect(image, every_layer=False)
print("ready", flush=True)
for line in sys.stdin:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < float(line):
        detector.detect(image, every_layer=False)
        count += 1
    print(count / (time.perf_counter() - began), flush=True)
os._exit(0)
"""


def load(app: App, script: Path, connections: int, seconds: float) -> dict:
    """Run wrk; gives its percentiles in ms, the count of each status and the 200s a second."""
    ran = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "60s",
         "-s", str(script), f"{app.url}/v1/detect"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(re.search(r"RESULT (.*)", ran.stdout)[1])  # type: ignore[index]
    result["statuses"] = {
        int(code): int(count) for code, count in re.findall(r"(\d+):(\d+)", result["statuses"])
    }
    if "Socket errors" in ran.stdout:
        result["socket"] = re.search(r"Socket errors: (.*)", ran.stdout)[1]  # type: ignore[index]
    return {**result, "per_second": result["statuses"].get(200, 0) / result["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    picture, script = folder / "picture.jpg", folder / "detect.lua"
    street = Image.open(EXAMPLES / "street.jpg").convert("RGB")
    ImageOps.fit(street, (640, 480)).save(picture, quality=85)
    script.write_text(SCRIPT.format(picture=picture))
    app = App("--checkpoint", "bundled", HF_HUB_OFFLINE="1", RTDETR_RUNTIME="auto")
    alone = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(picture)],
        cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert alone.stdin
    assert alone.stdout
    try:
        app.wait_until_ready()
        while "now runs on" not in app.printed:
            time.sleep(0.5)
        alone.stdout.readline()
        time.sleep(10)  # the app times itself once more
        load(app, script, options.connections, 5)
        shares = []
        for _ in range(options.turns):
            alone.stdin.write("8\n")
            alone.stdin.flush()
            by_itself = float(alone.stdout.readline())
            served = load(app, script, options.connections, 8)["per_second"]
            shares.append(served / by_itself)
            print(f"alone {by_itself:.1f}, served {served:.1f} pictures a second: {shares[-1]:.0%}")
        print(f"median share {statistics.median(shares):.0%}")
        alone.stdin.close()
        before, most, end = app.memory_mb, 0.0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not end.wait(0.5):
                most = max(most, app.memory_mb)

        watching = threading.Thread(target=watch)
        watching.start()
        print(json.dumps(load(app, script, options.connections, options.seconds)))
        end.set()
        watching.join()
        print(f"memory: {before:.0f} MB before, at most {most:.0f}, {app.memory_mb:.0f} after")
        left = re.search(
            r"^rtdetr_queue_pictures (\S+)", httpx.get(f"{app.url}/metrics").text, re.M
        )
        print("pictures left in the queue:", left and left[1])
    finally:
        alone.kill()
        app.stop()
        print("exit status of the app:", app.process.returncode)


if __name__ == "__main__":
    main()
