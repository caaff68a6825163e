"""`python -m rtdetr_demo serve --ray`: the API before two replicas."""

import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.app import free_port
from tests.support.paths import EXAMPLES, REPO
from tests.support.processes import descendants

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.alone]

PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()
KEY = "alpha-key-of-a-test"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "image/jpeg"}


class Served:
    """The command in a process of its own."""

    def __init__(self, checkpoint: Path, temporary: str):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "rtdetr_demo", "serve", "--ray", "--replicas", "2",
                "--cpus", "0.5", "--checkpoint", str(checkpoint), "--runtime", "torch",
                "--port", str(port),
            ],
            cwd=REPO,
            env={
                **os.environ, "RTDETR_API_KEYS": KEY, "RTDETR_API_SHARE": "8",
                "RAY_TMPDIR": temporary, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("RT-DETR API"):
                break
        assert self.process.poll() is None
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        for _ in range(600):
            if httpx.get(f"{self.url}/readyz").status_code == 200:
                return
            time.sleep(0.1)
        raise AssertionError("it never was ready")

    def replicas(self) -> list[int]:
        below = descendants(self.process.pid)
        return [pid for pid, command in below.items() if "ServeReplica:rtdetr:Models" in command]

    def ask(self, picture: bytes = PHOTO) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/detect?threshold=0.3", content=picture, headers=HEADERS, timeout=60
        )


@pytest.fixture(scope="module")
def served(tiny: Path) -> Iterator[Served]:
    short = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it: names have a limit
    running = Served(tiny, short)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(60)
    shutil.rmtree(short, ignore_errors=True)


def test_openai_clients_work_unchanged(served: Served, tiny: Path):
    client = OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0)
    url = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
    picture: list = [{"type": "image_url", "image_url": {"url": url}}]
    completion = client.chat.completions.create(
        model=tiny.name, messages=[{"role": "user", "content": picture}]
    )
    assert '"detections"' in str(completion.choices[0].message.content)
    stream = client.chat.completions.create(
        model=tiny.name, messages=[{"role": "user", "content": picture}], stream=True
    )
    assert "".join(one.choices[0].delta.content or "" for one in stream if one.choices)
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.chat.completions.create(
            model="PekingU/rtdetr_r50vd", messages=[{"role": "user", "content": picture}]
        )


def test_refusals_are_those_of_a_single_process(served: Served):
    refused = httpx.post(f"{served.url}/v1/detect", content=PHOTO, headers={"Authorization": "x"})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "missing_api_key"
    assert served.ask(b"no picture").status_code == 415
    deep = httpx.post(f"{served.url}/v1/detect?decoder_layers=9", content=PHOTO, headers=HEADERS)
    assert deep.status_code == 422
    assert "from 1 to 6" in deep.json()["error"]["message"]
    assert httpx.get(f"{served.url}/healthz").json() == {"status": "ok"}
    assert 'status="401"' in httpx.get(f"{served.url}/metrics").text


def test_a_client_past_its_share_is_told_to_wait(served: Served):
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: served.ask(), range(40)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    assert all("retry-after" in one.headers for one in answers if one.status_code == 429)


def test_a_replica_that_is_killed_under_load_costs_no_answer(served: Served):
    like = served.ask().json()["detections"]
    assert like
    answers: list[httpx.Response] = []
    end = threading.Event()

    def keep_asking() -> None:
        while not end.is_set():
            answers.append(served.ask())

    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(keep_asking)
        while len(answers) < 12:
            time.sleep(0.05)
        before, killed = len(answers), served.replicas()[0]
        os.kill(killed, signal.SIGKILL)
        while len(answers) < before + 40:
            time.sleep(0.05)
        end.set()
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json()["detections"] == like
    assert killed not in served.replicas()
    assert [answer.status_code for answer in answers].count(200) >= 40


def test_sigterm_finishes_what_was_taken_on_and_refuses_what_comes(served: Served):
    """The last test here: it ends the server."""
    with ThreadPoolExecutor(8) as pool:
        under_way = [pool.submit(served.ask) for _ in range(6)]
        while not any(answer.done() for answer in under_way):
            time.sleep(0.01)
        served.process.terminate()
        after = []
        while served.process.poll() is None:
            try:
                after.append(served.ask().status_code)
            except httpx.HTTPError:
                after.append(0)
            time.sleep(0.2)
    assert [answer.result().status_code for answer in under_way] == [200] * 6
    assert served.process.returncode == 0
    assert set(after) <= {200, 404, 503, 0}
