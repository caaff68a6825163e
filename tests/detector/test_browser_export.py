"""The files that a browser runs give what the detector gives."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from transformers import RTDetrImageProcessorPil, RTDetrV2Config, RTDetrV2ForObjectDetection

from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.detector.browser_export import MANIFEST, export
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.network import StagedRTDetr
from rtdetr_demo.detector.postprocess import topk_postprocess
from rtdetr_demo.errors import Unprocessable
from tests.support.models import save, small

CPU = torch.device("cpu")


def read_manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


def sessions(folder: Path) -> list[onnxruntime.InferenceSession]:
    return [
        onnxruntime.InferenceSession(folder / file["name"], providers=["CPUExecutionProvider"])
        for file in read_manifest(folder)["files"]
    ]


def run(folder: Path, pixels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits and boxes of every layer, by ONNX Runtime."""
    encoder, *layers = sessions(folder)
    queries, boxes, tokens = encoder.run(None, {"pixels": pixels})
    found = []
    for layer in layers:
        given = {"queries": queries, "boxes": boxes, "tokens": tokens}
        queries, boxes, logits = layer.run(None, given)
        found.append((logits, boxes))
    return found


def widest_gap(detector: Detector, folder: Path, image: Image.Image) -> tuple[float, float]:
    """How far scores and boxes (as shares of the picture) are from the detector's, at any layer."""
    expected = detector.detect(image)
    found = run(folder, detector.prepare([image]).contiguous().numpy())
    parts = (torch.from_numpy(np.stack(part, 1)) for part in zip(*found, strict=True))
    scores, labels, queries, boxes = (part[0].numpy() for part in topk_postprocess(*parts))
    size = np.array([image.width, image.height] * 2)
    box_gap = 0.0
    for layer in range(expected.layers):
        ours = {
            key: box
            for *key, box in zip(queries[layer], labels[layer], boxes[layer], strict=True)
            for key in [tuple(map(int, key))]
        }
        for query, label, score, box in zip(
            expected.queries[layer],
            expected.labels[layer],
            expected.scores[layer],
            expected.boxes[layer] / size,
            strict=True,
        ):
            if score > 0.3:
                box_gap = max(box_gap, float(np.abs(ours[int(query), int(label)] - box).max()))
    return float(np.abs(scores - expected.scores).max()), box_gap


@torch.no_grad()
def widest_stage_gap(detector: Detector, folder: Path) -> float:
    """How far any stage's scores and boxes are from the detector's own, given the same."""
    encoder, *layers = sessions(folder)
    stages = StagedRTDetr(detector.model, detector.queries)
    pixels = torch.rand(1, 3, *detector.size, generator=torch.Generator().manual_seed(1))
    queries, boxes, *maps = stages.encode(pixels)
    tokens = torch.cat([one.flatten(1, 2) for one in maps], 1).numpy()
    gap = np.abs(encoder.run(["tokens"], {"pixels": pixels.numpy()})[0] - tokens).max()
    for layer, own, head in zip(layers, stages.layers, stages.heads, strict=True):
        given = {"queries": queries.numpy(), "boxes": boxes.numpy(), "tokens": tokens}
        _, found, logits = layer.run(None, given)
        queries, boxes = own(queries, boxes, *maps)
        scores = torch.from_numpy(logits).sigmoid() - head(queries).sigmoid()
        gap = max(gap, float(scores.abs().max()), np.abs(found - boxes.numpy()).max())
    return float(gap)


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return load("bundled", CPU)


@pytest.fixture(scope="module")
def bundled_files(bundled: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(bundled, tmp_path_factory.mktemp("browser"))


def test_the_bundled_checkpoint_says_the_same_within_half_of_the_tolerance(
    bundled: Detector, bundled_files: Path, photo: Image.Image
) -> None:
    score_gap, box_gap = widest_gap(bundled, bundled_files, photo)
    assert score_gap < 0.005
    assert box_gap < 0.005


def test_the_bundled_checkpoint_is_a_small_download(bundled_files: Path) -> None:
    files = read_manifest(bundled_files)["files"]
    assert len(files) == 7
    assert sum(file["bytes"] for file in files) < 12.5e6
    assert all((bundled_files / file["name"]).stat().st_size == file["bytes"] for file in files)


def test_the_manifest_prepares_pictures_as_the_checkpoints_processor_does(
    bundled_files: Path,
) -> None:
    preprocess = read_manifest(bundled_files)["preprocess"]
    assert preprocess["size"] == [256, 256]
    pixel = np.array([0, 128, 255]) * preprocess["scale"] + preprocess["shift"]
    assert pixel == pytest.approx([-1, 128 / 127.5 - 1, 1], abs=1e-6)


def test_files_are_made_once(bundled: Detector, bundled_files: Path) -> None:
    manifest = bundled_files / "manifest.json"
    os.utime(manifest, (1, 1))
    assert export(bundled, bundled_files.parent) == bundled_files
    assert manifest.stat().st_mtime == 1
    assert [one.name for one in bundled_files.parent.iterdir()] == [bundled_files.name]


@pytest.mark.parametrize("method", ["default", "discrete"])
def test_each_stage_of_an_rtdetrv2_says_the_same_with_either_sampling(
    tmp_path: Path, method: str
) -> None:
    settings = small(decoder_layers=2, decoder_method=method, decoder_offset_scale=0.5)
    model = RTDetrV2ForObjectDetection(RTDetrV2Config(**settings)).eval()
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.encoder_attn.sampling_offsets.bias.normal_(0, 2)  # some points lie outside
    detector = Detector.load("v2", save(model, tmp_path / "v2", 160), CPU)
    assert widest_stage_gap(detector, export(detector, tmp_path / "cache")) < 0.005


def test_each_stage_of_a_random_rtdetr_says_the_same(tiny: Path, tmp_path: Path) -> None:
    detector = Detector.load("tiny", tiny, CPU)
    assert widest_stage_gap(detector, export(detector, tmp_path)) < 0.005


def test_a_checkpoint_that_pads_is_left_to_the_server(tiny: Path, tmp_path: Path) -> None:
    detector = Detector.load("tiny", tiny, CPU)
    processor = RTDetrImageProcessorPil(
        size={"height": 128, "width": 160}, do_pad=True, pad_size={"height": 160, "width": 160}
    )
    padded = Detector("padded", detector.model, processor, CPU)
    with pytest.raises(Unprocessable, match="Run on the server"):
        export(padded, tmp_path)
    assert list(tmp_path.iterdir()) == []
