"""A Space on ZeroGPU: the real package, beside a stand-in for the service that lends cards."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import httpx
import pytest
import torch

from rtdetr_demo.errors import Busy
from rtdetr_demo.model import detector as detector_module
from tests.support.app import free_port, wait_until_ready
from tests.support.caller import Caller
from tests.support.paths import EXAMPLES, REPO
from tests.support.services import MakeService
from tests.support.standin import LocalServer, QuietHandler

# What the package asks of a CUDA build of PyTorch where no card is touched: its version, and that
# the functions exist that it puts out of reach or asks whether CUDA was begun too early.
LAUNCH = (
    "import runpy, sys, torch; torch.version.cuda = '13.0'; torch._C._cuda_init = None; "
    "torch.cuda._is_in_bad_fork = bool; "
    "sys.argv[:] = sys.argv[1:]; runpy.run_path('app.py', run_name='__main__')"
)


class DeviceService(LocalServer):
    """Lends cards: notes what it is asked, and says that the visitor's time is spent."""

    def __init__(self) -> None:
        asked = self.asked = list[str]()

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802
                asked.append(self.path)
                if self.path.startswith("/schedule"):
                    body = b'{"left": 0, "wait": "PT3H"}'
                    return self.reply(429, body, Content_Type="application/json")
                self.reply(200, b"{}", Content_Type="application/json")

            do_GET = do_POST  # noqa: N815

        super().__init__(Handler)


@pytest.mark.slow
def test_the_main_process_gets_ready_without_a_card_and_a_spent_quota_is_a_sentence(tmp_path):
    pytest.importorskip("spaces")
    port = free_port()
    with DeviceService() as service:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "app.py", "--checkpoint", "bundled",
             "--port", str(port)],
            cwd=REPO,
            env={
                "PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": os.environ["TMPDIR"],
                "HF_HUB_OFFLINE": "1", "SPACES_ZERO_GPU": "true",
                "SPACES_ZERO_DEVICE_API_URL": service.url,
                "ZEROGPU_PROC_SELF_CGROUP_PATH": str(_cgroup(tmp_path)),
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            wait_until_ready(process, port)
            assert service.asked == ["/startup-report"], "nothing is asked for while nobody looks"
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, headers={"X-IP-Token": "a.visitor.s"}) as client:
                answer = client.post(
                    "/v1/detect",
                    content=(EXAMPLES / "dogs.jpg").read_bytes(),
                    headers={"Content-Type": "image/jpeg"},
                )
                assert "No card could be lent" in answer.text
            page = Caller(url, headers={"X-IP-Token": "another.visitor.s"})
            assert "No card could be lent" in page("detect", {"example": "dogs.jpg"})["error"]
            tokens = [
                parse_qs(urlsplit(path).query).get("token")
                for path in service.asked
                if path.startswith("/schedule")
            ]
            assert tokens == [["a.visitor.s"], ["another.visitor.s"]]
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
    assert "Low-level CUDA init" not in output
    assert process.returncode == 0, output


def _cgroup(folder: Path) -> Path:
    path = folder / "cgroup"
    path.write_text("0::/kubepods/pod/container\n")
    return path


@pytest.fixture
def zero_gpu(monkeypatch):
    """This process as such a Space; gives the names of what runs on a card."""
    calls: list[str] = []

    def gpu(function, duration):
        def run(*arguments):
            calls.append(function.__name__)
            return function(*arguments)

        return run

    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    return calls


def test_what_touches_the_card_runs_inside_a_call_and_measures_there(
    make_service: MakeService, tiny: Path, noise, zero_gpu, monkeypatch
):
    moved = []
    monkeypatch.setattr(
        detector_module, "_present_device", lambda: moved.append(1) or torch.device("cpu")
    )
    service = make_service(checkpoint=str(tiny))
    service.detector()
    assert zero_gpu == moved == []
    assert service.latencies.latency(tiny.name) is None
    assert service.detect(noise).layers == 6
    assert zero_gpu == ["_detect"]
    assert len(moved) == 1
    latency = service.latencies.latency(tiny.name)
    assert latency is not None
    assert len(latency.total_ms) == 6


def test_a_spent_quota_is_a_sentence(make_service: MakeService, tiny: Path, noise, monkeypatch):
    def gpu(function, duration):
        def run(*_):
            raise gr.Error("You have <b>exceeded</b> your quota.")

        return run

    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    service = make_service(checkpoint=str(tiny))
    with pytest.raises(Busy, match=r"You have exceeded your quota\. Sign in on Hugging Face"):
        service.detect(noise)
