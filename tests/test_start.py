"""`python app.py` wherever a stranger starts it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.app import free_port
from tests.support.paths import EXAMPLES, REPO


def launch(*command: str, port: int, cwd: Path = REPO, **environ: str) -> subprocess.Popen:
    """`app.py` with this environment alone."""
    return subprocess.Popen(
        [*command, "app.py", "--checkpoint", "bundled", "--runtime", "torch", "--port", str(port)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    process.kill()
    pytest.fail(process.communicate()[0])


def detect(port: int) -> list:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/detect",
        content=(EXAMPLES / "dogs.jpg").read_bytes(),
        headers={"Content-Type": "image/jpeg"},
        timeout=60,
    )
    return answer.raise_for_status().json()["detections"]


def test_it_serves_on_a_machine_that_never_ran_gradio_and_leaves_nothing(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "tämp with space"
    home.mkdir()
    temporary.mkdir()
    port = free_port()
    process = launch(sys.executable, port=port, HOME=str(home), TMPDIR=str(temporary), LANG="C")
    try:
        wait_until_ready(process, port)
        assert detect(port)
        folder = next(temporary.glob("rtdetr-demo-*"))
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert list(temporary.iterdir()) == [], output
