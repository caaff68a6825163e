"""CUDA graphs, with a stand-in that records on the CPU: what they read stays, and few are made."""

import gc
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

from rtdetr_demo.detector.cuda_graphs import KEPT, USES, CudaGraphBackend, CudaRecorder
from rtdetr_demo.detector.network import StagedRTDetr
from tests.support.models import random_model, small

QUERIES = 20


class Seen(TorchDispatchMode):
    """The operations of a stretch of work, and the storages that it reads but has not made."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.read: list[StorageWeakRef] = []
        self._made: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.operations.append(str(function))
        for value in tree_leaves((arguments, options or {})):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self._made:
                self.read.append(StorageWeakRef(value.untyped_storage()))
        result = function(*arguments, **(options or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._made.add(value.untyped_storage()._cdata)
        return result


class Replay:
    def __init__(self, work: Callable[[], Any], result: tuple[Tensor, ...]):
        self._work, self._result = work, result

    def replay(self) -> None:
        for old, new in zip(self._result, self._work(), strict=True):
            old.copy_(new)


class RecorderOnCpu:
    """Does again what was recorded, into the same memory, and knows what it read."""

    made: list["RecorderOnCpu"]

    def __init__(self, _: torch.device):
        self.read: list[StorageWeakRef] = []
        self.made.append(self)

    def warm_up(self, work: Callable[[], object]) -> None:
        work()

    def record(self, work: Callable[[], Any]) -> tuple[Replay, Any]:
        with Seen() as seen:
            result = tuple(value.clone() for value in work())
        self.read += seen.read
        return Replay(work, result), result


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[RecorderOnCpu]:
    """Those that were made so far: one for each recording of a shape."""
    monkeypatch.setattr(RecorderOnCpu, "made", [], raising=False)
    return RecorderOnCpu.made


@pytest.fixture(scope="module")
def stages() -> StagedRTDetr:
    settings = small(decoder_layers=3, num_queries=QUERIES)
    return StagedRTDetr(random_model(**settings), QUERIES).eval()


def picture(height: int = 64, width: int = 64, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator)


def use(backend: CudaGraphBackend, pixels: Tensor, times: int = USES, depth: int = 1) -> Any:
    with torch.inference_mode():
        for _ in range(times):
            result = backend.run(pixels, depth, False)
    return result


def test_a_replay_says_what_a_plain_pass_says_at_every_depth(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    use(backend, picture())
    assert len(recorders) == 1
    for depth in (1, 3, 2):
        for every in (True, False):
            pixels = picture(seed=depth)
            with torch.inference_mode():
                expected, actual = stages(pixels, depth, every), backend.run(pixels, depth, every)
            torch.testing.assert_close(actual, expected)
    assert len(recorders) == 1


def test_results_outlive_the_next_replay(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    logits, _ = use(backend, picture(seed=1))
    kept = logits.clone()
    use(backend, picture(seed=2))
    torch.testing.assert_close(logits, kept)


def test_all_that_a_recording_reads_lives_while_other_sizes_come_and_go(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    use(backend, picture())
    expected = use(backend, picture(), 1)
    sides = range(64, 257, 32)
    sizes = [(height, width) for height in sides for width in sides if height != width]
    assert len(sizes) > 32, "more than transformers' own caches hold"
    for height, width in sizes:
        use(backend, picture(height, width), 1)
    [recorder] = recorders
    assert len(recorder.read) > 50
    assert not any(storage.expired() for storage in recorder.read)
    torch.testing.assert_close(use(backend, picture(), 1), expected)


def test_a_shape_is_recorded_only_after_several_uses(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    use(backend, picture(), USES - 1)
    assert not recorders
    use(backend, picture(), 1)
    assert len(recorders) == 1


def test_all_depths_and_batches_of_a_size_leave_room_for_others(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    for batch in (1, 2, 3, 4, 6, 8, 12, 16):
        for depth in (1, 2, 3):
            use(backend, picture(batch=batch), depth=depth)
    assert len(recorders) == 5 < KEPT


def test_a_padded_batch_gives_each_picture_what_it_gets_alone(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    pixels = picture(batch=3)
    actual = use(backend, pixels)
    assert len(recorders) == 1
    with torch.inference_mode():
        expected = stages(pixels, 1, False)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_more_shapes_than_are_kept_are_not_recorded_again_and_again(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    sizes = [(64, 32 * side) for side in range(2, 2 + KEPT + 2)]
    for _ in range(4 * USES):
        for height, width in sizes:
            use(backend, picture(height, width), 1)
    assert len(recorders) < 1.5 * len(sizes)


def test_what_a_dropped_recording_held_is_freed(stages, recorders):
    backend = CudaGraphBackend(stages, RecorderOnCpu)
    use(backend, picture())
    [recording] = backend._recordings.values()
    held = weakref.ref(recording)
    del recording
    backend.release()
    gc.collect()  # the stand-in's graphs hold their work, and so each other
    assert held() is None


def test_after_a_failed_capture_passes_run_as_they_are(stages, recorders, caplog):
    class Fails(RecorderOnCpu):
        def record(self, work: Callable[[], Any]) -> tuple[Replay, Any]:
            raise RuntimeError("operation not permitted when stream is capturing")

    backend = CudaGraphBackend(stages, Fails)
    assert backend.name == "CUDA graphs"
    actual = use(backend, picture(), 3 * USES)
    assert len(recorders) == 1, "it is not tried again"
    assert backend.name == "PyTorch"
    assert "not permitted when stream is capturing" in caplog.text
    with torch.inference_mode():
        torch.testing.assert_close(actual, stages(picture(), 1, False))


def test_a_failed_capture_leaves_the_stream_as_it_was(monkeypatch):
    current = ["the caller's"]

    @contextmanager
    def graph(*_: object, **__: object):
        current[0] = "the capture's"
        yield
        current[0] = "the caller's"

    def work() -> None:
        raise RuntimeError("capture failed")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))
    with pytest.raises(RuntimeError, match="capture failed"):
        CudaRecorder(torch.device("cuda")).record(work)
    assert current == ["the caller's"]


@torch.inference_mode()
def test_discrete_sampling_copies_nothing_from_the_host():
    torch.manual_seed(0)
    settings = small(decoder_layers=2, num_queries=QUERIES, decoder_method="discrete")
    model = RTDetrV2ForObjectDetection(RTDetrV2Config(**settings)).eval()
    stages = StagedRTDetr(model, QUERIES).eval()
    stages(picture(), 2)  # makes the constants of this size
    pixels = picture()
    with Seen() as seen:
        stages(pixels, 2)
    assert "aten.gather.default" in seen.operations
    operations = [name for name in seen.operations if "lift" in name or "scalar_tensor" in name]
    assert not operations
