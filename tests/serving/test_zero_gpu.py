"""A Space on ZeroGPU: the real package, beside a stand-in for the service that lends cards."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector import detector as detector_module
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import Busy
from rtdetr_demo.settings import Settings
from rtdetr_demo.zero_gpu import is_zero_gpu
from tests.support.app import free_port, wait_until_ready
from tests.support.caller import Caller
from tests.support.paths import EXAMPLES, REPO
from tests.support.processes import wait_for
from tests.support.services import MakeService
from tests.support.standin import LocalServer, QuietHandler

# What the package asks of a CUDA build of PyTorch where no card is touched: its version, and that
# the functions exist that it puts out of reach or asks whether CUDA was begun too early. In the
# worker, which has no card here either, the device is the CPU: nothing is begun on a card, and the
# weights that the package has written to the disk for it are read into the CPU's memory.
LAUNCH = """
import itertools, pathlib, runpy, sys, torch
torch.version.cuda, torch._C._cuda_init, torch.cuda._is_in_bad_fork = "13.0", None, bool
import spaces.zero
from spaces.zero.torch import patching

def move(callback):
    for pack in patching.tensor_packs:
        written, offset = pathlib.Path(pack.path()).read_bytes(), 0
        for meta, size, aligned in itertools.chain(*pack.batches, pack.big_tensors):
            data = torch.frombuffer(bytearray(written[offset:offset + size]), dtype=torch.uint8)
            value = torch.empty(0, dtype=meta.dtype)
            value.set_(data.untyped_storage(), 0, meta.shape, meta.stride())
            for fake in pack.fakes[meta]:
                fake.data = value
            offset += aligned

from rtdetr_demo.detector import devices
devices.lent_gpu = lambda: torch.device("cpu")
spaces.zero.torch.init = lambda uuid: None
spaces.zero.torch.move = move
sys.argv[:] = sys.argv[1:]
runpy.run_path("app.py", run_name="__main__")
"""

QUESTION = {"label": "dog", "box": [388, 575, 597, 865], "score": 0.8, "layer": 6}

SPENT = "spent.visitor.s"
GRANT = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "granted"}


class DeviceService(LocalServer):
    """Lends cards, but none to the visitor `SPENT`, whose time is used up; notes what it is
    asked."""

    def __init__(self) -> None:
        asked = self.asked = list[str]()

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802
                asked.append(self.path)
                status, answer = 200, dict[str, object]()
                if self.path.startswith("/schedule"):
                    answer = GRANT
                    if _token(self.path) == SPENT:
                        status, answer = 429, {"left": 0, "wait": "PT3H"}
                body = json.dumps(answer).encode()
                self.reply(status, body, Content_Type="application/json")

            do_GET = do_POST  # noqa: N815

        super().__init__(Handler)

    def schedules(self) -> list[str | None]:
        """Whose time each asked call was to count as."""
        return [_token(path) for path in self.asked if path.startswith("/schedule")]

    def count(self, path: str) -> int:
        return sum(one.startswith(path) for one in self.asked)


def _token(path: str) -> str | None:
    return parse_qs(urlsplit(path).query).get("token", [None])[0]


@pytest.fixture(scope="module")
def device_service() -> Iterator[DeviceService]:
    with DeviceService() as service:
        yield service


@pytest.fixture(scope="module")
def space(device_service: DeviceService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the demo as such a Space, with the real package."""
    pytest.importorskip("spaces")
    port, home = free_port(), tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "app.py", "--checkpoint", "bundled", "--port", str(port)],
        cwd=REPO,
        env={
            "PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": os.environ["TMPDIR"],
            "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": device_service.url,
            "ZEROGPU_PROC_SELF_CGROUP_PATH": str(_cgroup(home)),
            "ZEROGPU_OFFLOAD_DIR": str(home / "weights for the card"),
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until_ready(process, port)
        assert device_service.asked == ["/startup-report"], "nothing while nobody looks"
        [pack] = (home / "weights for the card").iterdir()
        assert pack.stat().st_size > 20_000_000, "the bundled checkpoint's, in full precision"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert "Low-level CUDA init" not in output
    assert "Traceback" not in output
    assert process.returncode == 0, output


def detect(url: str, token: str, **settings: object) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/detect",
        content=(EXAMPLES / "dogs.jpg").read_bytes(),
        headers={"Content-Type": "image/jpeg", "X-IP-Token": token},
        params=settings,
        timeout=60,
    )


@pytest.mark.slow
def test_pictures_are_detected_in_by_a_worker_that_was_lent_a_card(
    space: str, device_service: DeviceService
):
    before = len(device_service.schedules())
    found = detect(space, "a.visitor.s", decoder_layers=3).json()
    bundled = Detector.load("bundled", BUNDLED_FOLDER, torch.device("cpu"))
    with Image.open(EXAMPLES / "dogs.jpg") as photo:
        expected = bundled.detect(photo.convert("RGB"), 3).to_json(3, 0.5)
    # What was placed lies in memory otherwise, and so rounds otherwise.
    assert [(one["label"], one["box"]) for one in found["detections"]] == [
        (one["label"], one["box"]) for one in expected["detections"]
    ]
    assert [one["score"] for one in found["detections"]] == pytest.approx(
        [one["score"] for one in expected["detections"]], abs=1e-4
    )
    page = Caller(space, headers={"X-IP-Token": "another.visitor.s"})
    shown = page("detect", {"path": page.upload((EXAMPLES / "dogs.jpg").read_bytes())})
    seen = page("inspect", {"result": shown["id"], **QUESTION})
    assert "error" not in seen
    wait_for(lambda: page("status", {"checkpoint": "bundled"})["latency"])
    charged = device_service.schedules()[before:]
    assert [token for token in charged if token] == [
        "a.visitor.s", *["another.visitor.s"] * 2,
    ]  # fmt: skip
    assert len(charged) == 4, "measured in a call of its own, which no visitor pays for"
    wait_for(lambda: device_service.count("/release") == device_service.count("/schedule"))


@pytest.mark.slow
def test_a_spent_quota_of_a_visitor_is_a_sentence(space: str):
    assert "No GPU is available" in detect(space, SPENT).text
    page = Caller(space, headers={"X-IP-Token": SPENT})
    assert "No GPU is available" in page("detect", {"example": "dogs.jpg"})["error"]


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


def test_what_touches_the_card_runs_inside_a_call_and_is_measured_in_another(
    make_service: MakeService, tiny: Path, noise, zero_gpu, monkeypatch
):
    moved = []
    monkeypatch.setattr(detector_module, "lent_gpu", lambda: moved.append(1) or torch.device("cpu"))
    service = make_service(checkpoint=str(tiny))
    service.checkpoints.detector()
    assert zero_gpu == moved == []
    assert service.latencies.latency(tiny.name) is None
    assert service.engine.submit("visitor", noise).result(60).layers == 6
    assert zero_gpu[:1] == ["_detect_on_gpu"]
    wait_for(lambda: service.latencies.latency(tiny.name))
    assert zero_gpu == ["_detect_on_gpu", "_measure_in_call"]
    assert len(moved) == 1
    latency = service.latencies.latency(tiny.name)
    assert latency is not None
    assert len(latency.total_ms) == 6


def test_what_was_placed_on_the_card_detects_there(
    make_service: MakeService, tiny: Path, noise, zero_gpu, monkeypatch
):
    service = make_service(checkpoint=str(tiny))
    detector = service.checkpoints.detector()
    own = detector.model
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.Module, "to", lambda module, device: module)  # no card is here
        service.preload_gpu_copy()
    assert detector.model is own, "what is exported stays on the CPU"
    monkeypatch.setattr(detector_module, "lent_gpu", lambda: torch.device("cpu"))
    expected = detector.detect(noise)
    found = service.engine.submit("visitor", noise).result(60)
    assert detector.model is not own
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_a_worker_whose_move_fails_does_not_stay_on_the_cpu(
    make_service: MakeService, tiny: Path, noise, zero_gpu, monkeypatch
):
    service = make_service(checkpoint=str(tiny))
    detector = service.checkpoints.detector()
    # A device that takes weights and computes nothing, as one that has failed.
    monkeypatch.setattr(detector_module, "lent_gpu", lambda: torch.device("meta"))
    for _ in range(2):
        with pytest.raises(Busy, match="No GPU is available: meta failed"):
            service.engine.submit("visitor", noise).result(60)
    monkeypatch.setattr(detector_module, "lent_gpu", lambda: torch.device("cpu"))
    assert service.engine.submit("visitor", noise).result(60).layers == 6
    assert str(detector.device) == "cpu"


def test_a_worker_without_a_gpu_says_so(
    make_service: MakeService, tiny: Path, noise, zero_gpu, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    service = make_service(checkpoint=str(tiny))
    with pytest.raises(Busy, match="was given none that works"):
        service.engine.submit("visitor", noise).result(60)


@pytest.mark.parametrize(("value", "meant"), [("0", False), ("false", False), ("1", True)])
def test_spaces_zero_gpu_means_the_same_everywhere(monkeypatch, value, meant):
    monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert is_zero_gpu() == meant
    assert Settings().device_runtime == ("live" if meant else "on")


def test_a_default_that_cannot_be_loaded_leaves_the_card_to_the_bundled_one(
    make_service: MakeService, tmp_path: Path, zero_gpu, monkeypatch
):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "rt_detr"}')
    placed = []
    monkeypatch.setattr(Detector, "preload_gpu_copy", lambda self: placed.append(self.checkpoint))
    service = make_service(checkpoint=str(broken))
    service.preload_gpu_copy()
    assert placed == [service.checkpoints.active] == ["bundled"]
    assert "Using the bundled checkpoint instead of broken" in service.checkpoints.notice


def test_a_spent_quota_is_a_sentence(make_service: MakeService, tiny: Path, noise, monkeypatch):
    def gpu(function, duration):
        def run(*_):
            raise gr.Error("You have <b>exceeded</b> your quota.")

        return run

    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    service = make_service(checkpoint=str(tiny))
    with pytest.raises(Busy, match=r"You have exceeded your quota\. Sign in on Hugging Face"):
        service.engine.submit("visitor", noise).result(60)
