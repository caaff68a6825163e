"""`python app.py` in a process of its own."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.support.paths import REPO

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, whatever loop (the browser's) holds this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_ready(port: int) -> bool:
    """Whether the app on a port of the loopback address has its checkpoint loaded."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until_ready(process: subprocess.Popen, port: int) -> None:
    """Wait until an app in a process of its own is ready; one that is not in time is killed, and
    what it printed fails the test."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if is_ready(port):
            return
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate()[0])


class App:
    """`python app.py` in a process of its own, with what it printed; on PyTorch alone, as the
    faster runtimes take the CPU for a while when they are made ready."""

    def __init__(self, *arguments: str, port: int | None = None, **environ: str):
        self.port = port or free_port()
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
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        match = re.search(r"VmRSS:\s+(\d+)", status)
        assert match
        return int(match[1]) / 1024

    def wait_until_ready(self) -> None:
        """Wait until the checkpoint that serves is loaded."""
        end = time.monotonic() + 90
        while not is_ready(self.port):
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < end, self.printed
            time.sleep(0.1)

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
