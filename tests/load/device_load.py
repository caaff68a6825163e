"""Detection on the visitor's own device: `python tests/load/device_load.py [--seconds 15]
[--viewers 10]`.

A first and a second visit in headless Chromium, with the bytes that each takes; then a camera, with
the frames painted a second at each depth, on as many threads as the page takes and on one, the main
thread's long tasks meanwhile, and the share of one core that the server takes. Last, many cameras
at once: what the server takes when each detects on its own device (all of them are this machine
here, so they are slow), and when they send it their frames.
"""

import argparse
import asyncio
import copy
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from playwright.sync_api import Route, sync_playwright

from tests.load.live_load import many_viewers
from tests.support.app import App, free_port
from tests.support.browser import camera_clip, launch
from tests.support.processes import seconds_of_cpu
from tests.support.visitor import Visitor

LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const { startTime, duration } of list.getEntries()) longTasks.push([startTime, duration]);
}).observe({ type: "longtask", buffered: true });
"""
COUNT_PAINTED = """(app, seconds) => new Promise((done) => {
  const began = performance.now();
  let [last, frames] = [app.app.store.get().result, 0];
  const look = (now) => {
    const { result } = app.app.store.get();
    if (result !== last) frames++;
    last = result;
    if (now - began < 1000 * seconds) return requestAnimationFrame(look);
    const tasks = longTasks.filter(([start]) => start >= began).map(([, ms]) => Math.round(ms));
    done({ rate: (1000 * frames) / (now - began), tasks });
  };
  requestAnimationFrame(look);
})"""
PATIENCE = 300
"""Seconds that one step of a page may take."""
ON_DEVICE = "s.result?.settings.runtime.startsWith('this device') && !s.busy"


class Meter:
    """Passes connections on to a port of this machine; `down` counts the bytes that come back."""

    def __init__(self, port: int):
        self.behind = port
        self.port = free_port()
        self.down = 0
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        await server.serve_forever()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.behind)
        await asyncio.gather(self._copy(reader, far_writer, 0), self._copy(far_reader, writer, 1))

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: int
    ) -> None:
        try:
            while content := await reader.read(1 << 16):
                self.down += counted * len(content)
                writer.write(content)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def share_of_core(app: App, seconds: float) -> float:
    """What the server takes of one core in the next so many seconds."""
    cpu, began = seconds_of_cpu(app.process.pid), time.monotonic()
    time.sleep(seconds)
    return (seconds_of_cpu(app.process.pid) - cpu) / (time.monotonic() - began)


def wait_until_measured(app: App) -> None:
    """A server that nobody asks measures itself again, a few times: wait for the last of them."""
    quiet = 0
    while quiet < 8:
        quiet = quiet + 1 if share_of_core(app, 5) < 0.2 else 0


def two_visits(visitor: Visitor, meter: Meter) -> None:
    """Choose this device, download what it takes, and come again."""
    address = f"http://127.0.0.1:{meter.port}"
    visitor.context.add_init_script(LONG_TASKS)
    visitor.open(address)
    visitor.wait_for_boxes()
    print(f"the page on the server: {meter.down / 1e6:.2f} MB")
    visitor.page.locator("rt-runtime [value=device]").check(force=True)
    visitor.page.locator("rt-runtime .get").click()
    visitor.wait_for(ON_DEVICE, 120)
    print(f"first visit: {meter.down / 1e6:.2f} MB")
    visitor.page.wait_for_url("**runtime=device**")
    address = visitor.page.url
    visitor.page.goto("about:blank")
    before = meter.down
    visitor.open(address)
    visitor.wait_for(ON_DEVICE, 120)
    print(f"second visit: {(meter.down - before) / 1e6:.3f} MB")


def camera(visitor: Visitor, app: App, seconds: float) -> None:
    """Frames painted a second, at each depth."""
    visitor.page.get_by_role("tab", name="Camera").click()
    visitor.page.get_by_role("button", name="Start camera").click()
    visitor.wait_for("s.result?.title === 'camera'", 60)
    print(visitor.state("s.result.settings.runtime"))
    for depth in range(6, 0, -1):
        visitor.slide("depth", depth)
        visitor.wait_for(f"s.result.predictions.first === {depth}")
        visitor.page.wait_for_timeout(2000)
        cpu, began = seconds_of_cpu(app.process.pid), time.monotonic()
        found = visitor.page.locator("rt-app").evaluate(COUNT_PAINTED, seconds)
        share = (seconds_of_cpu(app.process.pid) - cpu) / (time.monotonic() - began)
        figures = visitor.state("[s.live?.median, s.live?.p95]")
        stages = visitor.state("s.result.stages_ms")
        print(f"{depth} layers: {found['rate']:.1f} frames a second painted; latency {figures}")
        print("  stages:", json.dumps({name: round(ms, 1) for name, ms in stages.items()}))
        print(f"  long tasks on the main thread: {found['tasks']}; server's CPU: {share:.1%}")


def another_page(visitor: Visitor) -> Visitor:
    """The same visitor in another tab, with what the browser has kept."""
    another = copy.copy(visitor)
    another.page = visitor.context.new_page()
    return another


def frames(visitors: list[Visitor]) -> list[int]:
    """How many results each page has shown since this was asked first, and one."""
    count = """(app) => {
      if (window.shown === undefined) {
        window.shown = 0;
        app.app.store.subscribe(["result"], () => window.shown++);
      }
      return window.shown;
    }"""
    return [one.page.locator("rt-app").evaluate(count) for one in visitors]


def many_cameras(first: Visitor, app: App, count: int, seconds: float) -> None:
    """Cameras in as many tabs of one browser; all are open before the first of them starts."""
    first.context.set_default_timeout(1000 * PATIENCE)
    visitors = [first]
    address = first.page.url
    first.page.goto("about:blank")
    while len(visitors) < count:
        visitors.append(another_page(first))
    for one in visitors:
        one.open(address)
        one.wait_for("s.source === 'camera' && s.status?.here", PATIENCE)
    for one in visitors:
        one.page.get_by_role("button", name="Start camera").click()
    for one in visitors:
        one.wait_for("s.result?.title === 'camera' && s.result.settings.own", PATIENCE)
    before, began = frames(visitors), time.monotonic()
    share = share_of_core(app, seconds)
    shown = [after - n for n, after in zip(before, frames(visitors), strict=True)]
    rate = sum(shown) / (time.monotonic() - began)
    print(f"{count} cameras, each detects for itself: server's CPU {share:.1%} of a core")
    print(f"  {rate:.1f} frames a second in all; each: {shown}")


def without_isolation(route: Route) -> None:
    """Answer with the page as a host sends it that sets no headers: it detects on one thread."""
    answer = route.fetch()
    kept = {name: one for name, one in answer.headers.items() if not name.startswith("cross-")}
    route.fulfill(response=answer, headers=kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    app = App("--checkpoint", "bundled", HF_HUB_OFFLINE="1")
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            browser = launch(playwright, camera_clip(Path(folder)))
            visitor = Visitor(browser, "", permissions=["camera"])
            meter = Meter(app.port)
            two_visits(visitor, meter)
            wait_until_measured(app)
            camera(visitor, app, options.seconds)
            visitor.page.get_by_role("button", name="Stop").click()
            alone = another_page(visitor)
            alone.page.route(f"http://127.0.0.1:{meter.port}/?*", without_isolation)
            alone.open(visitor.page.url)
            alone.wait_for("s.status?.here", PATIENCE)
            camera(alone, app, options.seconds)
            alone.page.close()
            many_cameras(visitor, app, options.viewers, options.seconds)
            visitor.close()
            many_viewers(app, options.viewers, options.seconds)
    finally:
        app.stop()
