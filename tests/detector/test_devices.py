"""Which device detects, and what is said and done where one fails."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rtdetr_demo.detector import detector as detector_module
from rtdetr_demo.detector.backends import TorchBackend
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.devices import Stopwatch, best_device, explain, within_memory
from rtdetr_demo.errors import BadInput, Busy
from rtdetr_demo.settings import Settings

CPU = torch.device("cpu")
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def test_the_operator_chooses_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert best_device() == torch.device("cuda")
    for name in ("cpu", "cuda:1"):
        monkeypatch.setenv("RTDETR_DEVICE", name)
        assert best_device() == torch.device(name)
        assert Settings().device == name


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "tpu:0", "meta"])
def test_a_device_that_cannot_be_is_a_sentence(monkeypatch, name):
    monkeypatch.setenv("RTDETR_DEVICE", name)
    with pytest.raises(BadInput, match="Choose auto, cpu, cuda"):
        best_device()
    with pytest.raises(ValueError, match="choose auto, cpu, cuda"):
        Settings()


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [("cuda:2", 2, "the last GPU is cuda:1"), ("cuda", 0, "finds no GPU"), ("mps", 0, "Apple")],
)
def test_a_device_that_is_not_there_is_said_and_the_cpu_serves(
    monkeypatch, caplog, name, count, words
):
    monkeypatch.setenv("RTDETR_DEVICE", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert best_device() == CPU
    assert words in caplog.text


def test_an_old_driver_is_said(monkeypatch, caplog):
    def unavailable() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found 11040).", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    assert best_device().type != "cuda"
    assert "The NVIDIA driver on your system is too old" in caplog.text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError(OUT_OF_MEMORY), "too little free memory"),
        (RuntimeError("MPS backend out of memory"), "too little free memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "too little free memory"),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "not support"),
        (RuntimeError("CUDA driver version is insufficient for CUDA runtime"), "too old"),
        (RuntimeError("CUDA error: unspecified launch failure\nmore"), "unspecified launch"),
    ],
)
def test_a_failure_is_explained_in_one_line(error, words):
    reason = explain(error, torch.device("cuda"))
    assert words in reason
    assert "\n" not in reason


def test_a_device_that_fails_at_load_leaves_the_model_on_the_cpu(tiny: Path, noise, caplog):
    # It takes weights, and computes nothing.
    detector = Detector.load("tiny", tiny, torch.device("meta"))
    assert detector.device == CPU
    assert "meta failed" in detector.device_problem
    assert "tiny runs on the CPU: meta failed" in caplog.text
    expected = Detector.load("tiny", tiny, CPU).detect(noise)
    np.testing.assert_allclose(detector.detect(noise).scores, expected.scores, atol=1e-5)


def test_where_memory_runs_out_it_is_freed_and_the_batch_is_halved():
    ran, freed = [], []

    def work(items):
        ran.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return [item * 10 for item in items]

    results = within_memory(work, list(range(7)), CPU, lambda: freed.append(1))
    assert results == [0, 10, 20, 30, 40, 50, 60]
    assert ran == [7, 4, 2, 2, 3, 2, 1]
    assert len(freed) == 3


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def work(items):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        within_memory(work, [1, 2], CPU, lambda: None)


def test_a_batch_too_large_for_memory_is_detected_in_parts(tiny: Path, noise, photo, monkeypatch):
    detector = Detector.load("tiny", tiny, CPU)
    images = [noise, photo, noise.rotate(90)]
    expected = [detector.detect(image, 1) for image in images]
    run = TorchBackend.run

    def small_only(backend, pixels, *arguments):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return run(backend, pixels, *arguments)

    monkeypatch.setattr(TorchBackend, "run", small_only)
    for one, other in zip(detector.detect_batch(images, 1), expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    monkeypatch.setattr(
        TorchBackend, "run", lambda *_: (_ for _ in ()).throw(MemoryError("no memory"))
    )
    with pytest.raises(Busy, match="does not fit into memory: cpu has too little free memory"):
        detector.detect_batch(images, 1)


def test_on_cuda_time_is_taken_by_events_with_one_wait(monkeypatch):
    waits, clock = [], iter([1.0, 4.0, 9.5])

    class Event:
        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self, stream: object) -> None:
            self.at = next(clock)

        def synchronize(self) -> None:
            waits.append(self.at)

        def elapsed_time(self, end: "Event") -> float:
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    watch = Stopwatch(torch.device("cuda"))
    watch.mark()
    watch.mark()
    assert watch.milliseconds() == [3.0, 5.5]
    assert waits == [9.5]


def test_a_damaged_gpu_is_not_blamed_on_the_files(tiny: Path, monkeypatch):
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    monkeypatch.setattr(detector_module, "fuse", no_memory)
    with pytest.raises(Exception, match="too little free memory") as refusal:
        Detector.load("tiny", tiny, CPU)
    assert "damaged" not in str(refusal.value)
