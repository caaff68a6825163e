"""A detector's stages as ONNX files, for a browser that runs them by itself (see `ui/static/lib`).

One file for the encoding stage and one for each decoder layer, so that a page can stop after any
layer. Weights are stored in half precision and computed with in single precision.
"""

import copy
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..errors import Unprocessable
from .browser_stages import BrowserEncoder, BrowserLayer
from .detector import Detector
from .network import StagedRTDetr

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
OPSET = 17
VERSION = 1
"""Of the files' form; a page asks for the one that it knows."""
WORTH_HALVING = 1024
"""Numbers that a tensor has at least to be stored in half precision."""
SCORE_TOLERANCE = 5e-3
BOX_TOLERANCE = 2e-3
"""How far a stage may be from the detector's: in score, and in box as a share of the picture."""

_exporting = threading.Lock()


def export(detector: Detector, cache: Path) -> Path:
    """Write the detector's files into a folder of `cache`, unless they are there; gives the folder.

    It holds `manifest.json` (`version`, `checkpoint`, `class_names`, `decoder_layers`, `queries`,
    `preprocess`, see `Preprocess.settings`, and `files`: the encoding stage first, then the layers
    in order, each with `name`, `bytes` and `sha256`), and those files. Takes some seconds the first
    time.
    Raises Unprocessable for a checkpoint whose pictures only its own processor can prepare.
    """
    preprocess = detector.preprocess.settings()
    if preprocess is None:
        raise Unprocessable(
            f"{detector.checkpoint} needs a preprocessing that browsers do not support. "
            "Run on the server, or choose another checkpoint."
        )
    with _exporting:
        folder = cache / f"{_fingerprint(detector)}-v{VERSION}"
        if (folder / MANIFEST).is_file():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        # Written beside it, then renamed: a folder of this name is always complete.
        unfinished = Path(tempfile.mkdtemp(dir=cache))
        try:
            files = [_write(name, data, unfinished) for name, data in _stages(detector)]
            manifest = {
                "version": VERSION,
                "checkpoint": detector.checkpoint,
                "class_names": list(detector.class_names),
                "decoder_layers": detector.depth,
                "queries": detector.queries,
                "preprocess": preprocess,
                "files": files,
            }
            (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        total = sum(file["bytes"] for file in files)
        log.info("%s for browsers: %.1f MB", detector.checkpoint, total / 1e6)
        return folder


def _fingerprint(detector: Detector) -> str:
    """Of everything that the files depend on, so that a checkpoint that changes gets new ones."""
    digest = hashlib.sha256()
    settings = (detector.checkpoint, detector.class_names, detector.preprocess.settings())
    digest.update(json.dumps([*settings, detector.model.config.to_dict()], default=str).encode())
    for name, one in sorted(detector.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(one.float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:20]


def _write(name: str, data: bytes, folder: Path) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    # The name changes with the content, so a browser may keep it for good.
    file = f"{name}-{digest[:12]}.onnx"
    (folder / file).write_bytes(data)
    return {"name": file, "bytes": len(data), "sha256": digest}


def _stages(detector: Detector) -> Iterator[tuple[str, bytes]]:
    for half in (True, False):
        try:
            yield from list(_stages_in(detector, half))
            return
        except ArithmeticError as error:
            if not half:
                raise RuntimeError(f"{detector.checkpoint} for browsers: {error}") from error
            log.info("%s for browsers in single precision: %s", detector.checkpoint, error)


@torch.inference_mode(False)
@torch.no_grad()
def _stages_in(detector: Detector, half: bool) -> Iterator[tuple[str, bytes]]:
    """Each stage by name, as ONNX. Raises ArithmeticError where one disagrees with the detector."""
    # Tracing swaps methods of modules for a while: not on those that serve.
    model = copy.deepcopy(detector.model).cpu().float()
    reference = StagedRTDetr(model, detector.queries).eval()
    stages = copy.deepcopy(reference)
    if half:
        _round_weights(stages)
    pixels = torch.rand(1, 3, *detector.size, generator=torch.Generator().manual_seed(0))
    queries, boxes, *maps = reference.encode(pixels)
    shapes = [(int(feature_map.shape[1]), int(feature_map.shape[2])) for feature_map in maps]
    encoder = BrowserEncoder(stages.encode)
    *_, tokens = encoder(pixels)
    expected = torch.cat([feature_map.flatten(1, 2) for feature_map in maps], 1)
    _demand(tokens / expected.std(), expected / expected.std(), 10 * SCORE_TOLERANCE, "maps")
    yield "encoder", _to_onnx(encoder, (pixels,), ["pixels"], ["queries", "boxes", "tokens"])
    for number, (layer, head) in enumerate(zip(stages.layers, stages.heads, strict=True)):
        given = (queries, boxes, expected)
        queries, boxes = reference.layers[number](queries, boxes, *maps)
        exported = BrowserLayer(layer, head, shapes)  # type: ignore[arg-type]
        _, found_boxes, logits = exported(*given)
        _demand(found_boxes, boxes, BOX_TOLERANCE, "boxes")
        scores = reference.heads[number](queries).sigmoid()
        _demand(logits.sigmoid(), scores, SCORE_TOLERANCE, "scores")
        names = ["queries", "boxes", "tokens"], ["new_queries", "new_boxes", "logits"]
        yield f"layer-{number + 1}", _to_onnx(exported, given, *names)


def _demand(actual: Tensor, expected: Tensor, within: float, what: str) -> None:
    gap = float((actual - expected).abs().max())
    if not gap <= within:  # so that NaN fails, too
        raise ArithmeticError(f"{what} differ by {gap:.2g}")


def _round_weights(stages: nn.Module) -> None:
    """Round what is worth it to half precision, in place; single numbers keep theirs."""
    for module in stages.modules():
        held = [*module._parameters.values(), *vars(module).values()]
        for tensor in held:
            if isinstance(tensor, Tensor) and tensor.numel() >= WORTH_HALVING:
                tensor.copy_(tensor.half().float())


def _to_onnx(module: nn.Module, given: tuple, inputs: list[str], outputs: list[str]) -> bytes:
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: shapes are constants here, as they may
        torch.onnx.export(
            module,
            given,
            file,
            opset_version=OPSET,
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
        )
    model = onnx.load_from_string(file.getvalue())
    _store_halves(model.graph)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _store_halves(graph: onnx.GraphProto) -> None:
    """Store weights that half precision holds exactly in it, and widen them when they are read."""
    widened = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        halves = values.astype("float16")
        if values.size < WORTH_HALVING or not (halves == values).all():
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        widened.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        node.ClearField("name")  # a tenth of a megabyte that nobody reads
