"""The benchmark takes turns, and says what it measured."""

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtdetr_demo.__main__ import main
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.errors import BadInput, Cancelled
from rtdetr_demo.evaluation import whole_models
from rtdetr_demo.evaluation.benchmark import PRODUCT_SIDE, Plan, measure
from tests.support.models import random_model, save, small


@pytest.mark.load
def test_the_command_writes_every_depth_and_the_pipeline(
    tiny: Path, tmp_path, capsys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(PRODUCT_SIDE, "cpu", 512)
    out = tmp_path / "out.json"
    arguments = ["--checkpoint", str(tiny), "--against", "pipeline", "--rounds", "2"]
    arguments += ["--queries", "100", "--sizes", "128", "--batch", "2", "--runtime", "torch"]
    assert main(["benchmark", *arguments, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    names = [line["contender"] for line in content["lines"]]
    depths = [f"{k} of 6 layers" for k in range(1, 7)]
    shapes = ["100 of 300 queries", "size 128"]
    assert names == [*depths, "model alone", "transformers pipeline", *shapes]
    assert all(line["p5"] <= line["median"] <= line["p95"] for line in content["lines"])
    assert {line["runtime"] for line in content["lines"][:6]} == {"PyTorch"}
    assert content["lines"][5]["agreement"] == 1
    depths = content["lines"][:6]
    assert [line["ms"] for line in depths] == sorted(line["ms"] for line in depths)
    assert [round(line["ms"], 2) for line in depths] == content["latency"]["total_ms"]
    assert list(content["stages"])[:3] == ["preprocess", "backbone", "encoder"]
    assert content["throughput"]["pictures_per_second"] > 0
    assert 0 < content["throughput"]["share_of_a_matrix_product"] < 1
    assert all(name in printed for name in names)
    assert content["conditions"]["rounds"] == 2


@pytest.mark.load
def test_the_command_sets_the_network_against_converted_models(tmp_path: Path, capsys):
    folder = save(random_model(**small(decoder_layers=2)), tmp_path / "small", 160)
    out = tmp_path / "out.json"
    arguments = ["--checkpoint", str(folder), "--against", "openvino", "onnxruntime"]
    arguments += ["--rounds", "1", "--layers", "1", "--json", str(out)]
    assert main(["benchmark", *arguments]) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    compared = [(one["converter"], one["depth"]) for one in content["converted"]]
    assert compared == [("openvino", 1), ("onnxruntime", 1)]
    for one in content["converted"]:
        assert one["share"] == pytest.approx(one["network_ms"] / one["whole_model_ms"])
    assert "ONNX Runtime's whole model" in printed
    assert {"openvino", "onnxruntime"} <= content["conditions"].keys()
    assert content["conditions"]["picture"] == "640x480 noise"


@pytest.mark.parametrize("converter", ["openvino", "onnxruntime"])
def test_a_converted_model_says_what_the_network_says_at_its_depth(tiny: Path, converter):
    detector = Detector.load("tiny", tiny, torch.device("cpu"))
    pixels = torch.rand(1, 3, *detector.size, generator=torch.Generator().manual_seed(0))
    logits, _ = whole_models.prepare(converter, tiny, 2, detector.size)(pixels)
    expected, _ = detector.run(pixels, 2, False)
    best, expected_best = np.sort(logits[0].max(-1)), expected[0, 0].amax(-1).sort().values.numpy()
    assert best == pytest.approx(expected_best, abs=1e-3)


def test_a_converter_that_is_not_installed_is_a_sentence(tiny: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BadInput, match="pip install onnxruntime"):
        whole_models.prepare("onnxruntime", tiny, 1, (160, 160))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "none"], "whole number"),
        (["--layers", "9"], "from 1 to 6"),
        (["--rounds", "0"], "at least 1"),
        (["--batch", "-1"], "at least 1"),
        (["--sizes", "100"], "multiple of 32"),
        (["--queries", "301"], "from 10 to 300"),
        (["--device", "tpu"], "no device tpu"),
        (["--device", "cuda:99"], "no device cuda:99"),
        (["--picture", "none.jpg"], "could not be read"),
    ],
)
def test_wrong_options_are_a_sentence(tiny: Path, capsys, arguments, words):
    assert main(["benchmark", "--checkpoint", str(tiny), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_a_measurement_tells_how_far_it_is_and_can_be_cancelled(tiny: Path, noise: Image.Image):
    detector = Detector.load("tiny", tiny)
    told: list[float] = []
    plan = Plan(layers=(1, 6), sizes=(128,), rounds=2, runtime="torch")
    measure(detector, noise, plan, lambda what, share: told.append(share))
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1

    stop = threading.Event()
    told.clear()

    def cancel(what: str, share: float) -> None:
        told.append(share)
        stop.set()

    with pytest.raises(Cancelled):
        measure(detector, noise, plan, cancel, stop)
    assert len(told) == 1


def test_the_checkpoints_own_shape_is_timed_once(tiny: Path, noise: Image.Image):
    detector = Detector.load("tiny", tiny)
    plan = Plan(layers=(6,), queries=(100, 300), sizes=(128, 160), rounds=1, runtime="torch")
    report = measure(detector, noise, plan)
    knobs = [(line.kind, line.value) for line in report.lines if line.kind]
    assert knobs == [("layers", 6), ("queries", 100), ("size", 128)]
