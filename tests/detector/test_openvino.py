"""OpenVINO: one converted network, cuts of it, and what is kept on disk."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rtdetr_demo.detector import openvino_cache
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.network import StagedRTDetr
from rtdetr_demo.detector.openvino import CUTS, OpenVinoBackend
from rtdetr_demo.detector.openvino_cache import ConvertedCache, default_folder
from rtdetr_demo.errors import BadInput, Cancelled
from tests.support.models import random_model, small

SIZE = (160, 160)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stages() -> StagedRTDetr:
    model = random_model(**small(decoder_layers=3))
    return StagedRTDetr(model, 300).eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, stages: StagedRTDetr) -> Path:
    """A folder that holds the converted network of `stages`."""
    folder = tmp_path_factory.mktemp("cache") / "openvino"
    OpenVinoBackend(stages, SIZE, cache=folder)
    return folder


@pytest.fixture
def backend(stages: StagedRTDetr, cache: Path) -> OpenVinoBackend:
    return OpenVinoBackend(stages, SIZE, cache=cache)


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path) -> Path:
    """A copy of `cache` that a test may change."""
    return Path(shutil.copytree(cache, tmp_path / "cache"))


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The networks that are traced during a test."""
    traced: list[object] = []
    real = torch.jit.trace

    def trace(module: nn.Module, *arguments: object, **settings: object) -> object:
        traced.append(module)
        return real(module, *arguments, **settings)

    monkeypatch.setattr(torch.jit, "trace", trace)
    yield traced


def pixels(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


# --- Cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_cut_says_what_all_layers_say_at_its_depth(backend, depth):
    logits, boxes = backend.run(pixels(), 3, True)
    backend.prepare_cut(depth)
    assert backend.has_cut(depth)
    cut_logits, cut_boxes = backend.run(pixels(), depth, False)
    torch.testing.assert_close(cut_logits[:, 0], logits[:, depth - 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cut_boxes[:, 0], boxes[:, depth - 1], atol=1e-5, rtol=1e-4)


def test_without_a_cut_all_layers_serve_a_depth(backend):
    every, _ = backend.run(pixels(), 3, True)
    last, _ = backend.run(pixels(), 3, False)
    assert every.shape[1] == 3
    assert torch.equal(last[:, 0], every[:, 2])


def test_a_cut_has_no_work_of_later_layers(backend):
    def operations(depth: int) -> int:
        backend.prepare_cut(depth)
        return len(backend._cuts[depth].get_compiled_model().get_runtime_model().get_ops())

    assert operations(1) < operations(2)


def test_the_least_recently_used_cut_makes_room(backend):
    assert backend.copies == 1
    for depth in (1, 2):
        backend.prepare_cut(depth)
    backend.run(pixels(), 1, False)
    backend.prepare_cut(3)
    assert [backend.has_cut(depth) for depth in (1, 2, 3)] == [True, False, True]
    assert backend.copies == 1 + CUTS


def test_cuts_are_compiled_while_passes_go_on(backend):
    expected = {depth: backend.run(pixels(), depth, False)[0] for depth in (1, 2, 3)}
    served: dict[int, int] = dict.fromkeys(expected, 0)

    def prepare() -> None:
        for depth in (1, 2, 3, 1, 2):
            backend.prepare_cut(depth)

    helper = threading.Thread(target=prepare)
    helper.start()
    while helper.is_alive():
        for depth, logits in expected.items():
            found, _ = backend.run(pixels(), depth, False)
            torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)
            served[depth] += 1
    helper.join()
    assert min(served.values()) > 0


def test_a_cut_that_disagrees_is_not_used(backend, monkeypatch: pytest.MonkeyPatch):
    whole, _ = backend.run(pixels(), 2, False)
    real = backend._call

    def wrong(request: object, given: torch.Tensor) -> tuple:
        chosen, logits, boxes = real(request, given)
        return chosen, logits, [one + 0.01 for one in boxes]

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_call", wrong)
        backend.prepare_cut(2)
    assert not backend.has_cut(2)
    assert torch.equal(backend.run(pixels(), 2, False)[0], whole)


def test_near_ties_of_the_selection_do_not_count_as_disagreement(backend):
    """Two queries that change places, and one of 300 that is another, are no fault."""
    _, (chosen, logits, boxes) = backend._reference
    order = np.arange(300)
    order[[10, 11]] = [11, 10]
    moved = chosen[:, order].copy()
    moved[0, -1] = int(set(range(1000)).difference(chosen[0].tolist()).pop())
    outputs = moved, [one[:, order] for one in logits], [one[:, order] for one in boxes]
    backend._compare(outputs, backend._reference[1], range(1, 4))
    with pytest.raises(RuntimeError, match="boxes of layer 1 differ"):
        backend._compare(
            (chosen, logits, [one[:, order] for one in boxes]), backend._reference[1], range(1, 4)
        )


def test_other_queries_are_a_disagreement(backend):
    chosen, logits, boxes = backend._reference[1]
    with pytest.raises(RuntimeError, match="300 of 300 queries differ"):
        backend._compare((chosen + 10_000, logits, boxes), backend._reference[1], range(1, 4))


# --- The cache -----------------------------------------------------------------------------------


def test_a_second_start_traces_nothing(stages, cache, conversions):
    OpenVinoBackend(stages, SIZE, cache=cache)
    assert conversions == []


def test_without_a_cache_it_is_converted_each_time(stages, conversions):
    OpenVinoBackend(stages, SIZE)
    assert len(conversions) == 1


def test_other_weights_are_converted_anew(own_cache, conversions):
    other = StagedRTDetr(random_model(**small(decoder_layers=3)), 300).eval()
    with torch.no_grad():
        other.heads[2].bias += 1
    changed = OpenVinoBackend(other, SIZE, cache=own_cache)
    assert len(conversions) == 1
    torch.testing.assert_close(
        changed.run(pixels(), 3, False)[0], other(pixels(), 3, False)[0], atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("damage", ["cut short", "not XML", "other numbers"])
def test_a_damaged_entry_is_written_again(stages, backend, own_cache, conversions, damage):
    [entry] = own_cache.iterdir()
    weights = entry / "model.bin"
    if damage == "cut short":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "not XML":
        (entry / "model.xml").write_text("no network")
    else:
        numbers = np.fromfile(weights, dtype=np.uint8)
        numbers[: len(numbers) // 2] = 0
        numbers.tofile(weights)
        for compiled in (entry / "compiled").iterdir():
            compiled.unlink()
    again = OpenVinoBackend(stages, SIZE, cache=own_cache)
    assert len(conversions) == 1
    expected = backend.run(pixels(), 3, True)
    torch.testing.assert_close(again.run(pixels(), 3, True), expected, atol=1e-5, rtol=1e-4)
    OpenVinoBackend(stages, SIZE, cache=own_cache)
    assert len(conversions) == 1


def test_damaged_compiled_files_do_no_harm(stages, backend, own_cache):
    expected = backend.run(pixels(), 3, True)
    blobs = [one for one in own_cache.rglob("compiled/*") if one.is_file()]
    assert blobs
    for blob in blobs:
        blob.write_bytes(b"damaged" * 100)
    again = OpenVinoBackend(stages, SIZE, cache=own_cache)
    torch.testing.assert_close(again.run(pixels(), 3, True), expected, atol=1e-5, rtol=1e-4)


def test_a_folder_that_cannot_be_made_means_no_cache(stages, tmp_path):
    (tmp_path / "file").write_text("")
    backend = OpenVinoBackend(stages, SIZE, cache=tmp_path / "file" / "cache")
    assert backend.run(pixels(), 1, False)[0].shape == (1, 1, 300, 5)


def test_the_folder_is_private_and_one_of_others_is_not_used(tmp_path):
    ConvertedCache(tmp_path / "mine")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert not ConvertedCache(shared).store("entry", lambda file: file.write_text("") and None)
    assert list(shared.iterdir()) == []


def test_the_least_recently_used_entries_make_room(tmp_path):
    kept = ConvertedCache(tmp_path, limit_bytes=2500)
    write = lambda file: file.write_bytes(bytes(1000)) and None  # noqa: E731
    for name in ("first", "second"):
        assert kept.store(name, write)
    assert kept.load("first", lambda file: file.read_bytes()) == bytes(1000)
    assert kept.store("third", write)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["first", "third"]


def test_the_default_folder_is_among_the_users_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "rtdetr-demo" / "openvino"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "rtdetr-demo" / "openvino"


def test_it_gives_up_when_it_is_stopped(stages):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        OpenVinoBackend(stages, SIZE, stop=stop)


# --- The detector --------------------------------------------------------------------------------


@pytest.fixture
def detector(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Detector.load("tiny", tiny, CPU)


def test_a_detector_prepares_a_cut_when_a_depth_is_named(detector, noise: Image.Image):
    expected = detector.detect(noise, 2, every_layer=False)
    assert detector.accelerate()
    assert detector.is_accelerated()
    assert not detector.is_accelerated(depth=2)
    without = detector.memory_bytes
    assert detector.accelerate(depth=2)
    assert detector.is_accelerated(depth=2)
    assert detector.memory_bytes > without
    found = detector.detect(noise, 2, every_layer=False)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_a_depth_that_the_checkpoint_has_not_is_a_sentence(detector):
    with pytest.raises(BadInput, match="from 1 to 6"):
        detector.accelerate(depth=7)


def test_a_network_that_disagrees_is_not_used(
    detector, backend: OpenVinoBackend, monkeypatch: pytest.MonkeyPatch
):
    import openvino  # after the backend, which keeps it from reporting

    real = openvino.convert_model

    def wrong(*arguments: object, **settings: object) -> object:
        model = real(*arguments, **settings)
        for node in model.get_ops():
            if node.get_type_name() == "Sigmoid":  # boxes, among others
                user = next(iter(node.output(0).get_target_inputs()))
                opset = openvino.opset13
                user.replace_source_output(
                    opset.multiply(node.output(0), opset.constant(np.float32(1.01))).output(0)
                )
        return model

    monkeypatch.setattr(openvino, "convert_model", wrong)
    assert not detector.accelerate()
    assert detector.runtime().name == "PyTorch"


def test_each_size_and_number_of_queries_has_an_entry_of_its_own(stages):
    fewer = StagedRTDetr(random_model(**small(decoder_layers=3)), 100).eval()
    names = {openvino_cache.fingerprint(stages, size) for size in (SIZE, (160, 192))}
    assert len(names | {openvino_cache.fingerprint(fewer, SIZE)}) == 3
