"""Writes the folder of an export."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image
from transformers import AutoModelForObjectDetection, PreTrainedModel

from ..detector import efficientnet_lite
from ..detector.detector import Detector
from ..detector.openvino_import import import_openvino
from ..detector.parity import bundled_photograph
from ..detector.reading import read_checkpoint
from ..errors import BadInput, Unprocessable
from .card import card, license_of
from .check import Gap, gap, reference
from .network import INPUT, OPSET, OUTPUTS, to_onnx, to_openvino
from .settings import ONNX, OPENVINO, TRANSFORMERS, Cut, description

TOLERANCE = {TRANSFORMERS: 1e-4, ONNX: 1e-3, OPENVINO: 5e-2}
"""How far an export may be from the cut pass: in score, and in box as a share of the picture."""

ALIKE = {TRANSFORMERS: 1.0, ONNX: 1.0, OPENVINO: 0.97}
"""Share of the detections that must be within the tolerance: rounded weights may choose another
query where two are nearly equal."""

Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Scores, labels and boxes of one picture, as `CutNetwork` gives them."""

_SCRIPTS = Path(__file__).parent / "scripts"
_PLAIN_BACKBONE = "# The model, as published by transformers.\n"
_OWN_BACKBONE = "sys.path.insert(0, str(folder))\n__import__('efficientnet_lite')  # the backbone\n"


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: Where it lies.
        files: Names and bytes of its files.
        license: License of the weights, or "not stated".
        difference: From the cut pass; None where the runtime is not installed.
    """

    folder: Path
    files: dict[str, int]
    license: str
    difference: Gap | None


def export(
    detector: Detector,
    out: Path,
    form: str,
    cut: Cut,
    measured: str = "",
    on_progress: Callable[[float, str], None] = lambda share, what: None,
) -> Export:
    """Write a checkpoint, cut at a depth, into a new or empty folder.

    The folder appears when it is complete.

    Args:
        detector: The whole network, loaded from a folder.
        out: The folder to write.
        form: One of `settings.FORMATS`.
        cut: What `check_cut` gives.
        measured: Figures for the README, as Markdown.
        on_progress: Called with the share that is done, from 0 to 1, and the next step.

    Raises:
        BadInput: The folder is not empty, or cannot be written.
        Unprocessable: The checkpoint cannot be exported in this form, or the export disagrees with
            the detector's own pass.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is not an empty folder. Name a new one, or empty it first.")
    about = None if form == TRANSFORMERS else description(detector, cut)
    if about and form == ONNX:
        about["opset"] = OPSET
    photo = bundled_photograph()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".export-", dir=out.parent))
        try:
            on_progress(0.0, "convert")
            run = _WRITERS[form](detector, cut, about, unfinished)
            on_progress(0.7, "compare with the cut pass")
            difference = _compare(detector, cut, form, run, photo)
            on_progress(0.95, "write")
            text = card(detector, cut, form, about, difference, measured)
            (unfinished / "README.md").write_text(text, encoding="utf-8")
            if out.exists():
                out.rmdir()
            unfinished.chmod(0o755)
            unfinished.rename(out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"{out} could not be written: {error.strerror or error}.") from None
    on_progress(1.0, "done")
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    return Export(out, files, license_of(detector.checkpoint, detector.folder), difference)


Run = Callable[[Image.Image, torch.Tensor], Candidates]
"""Runs an export on a picture; the tensor is what the detector prepares of it."""


def _compare(
    detector: Detector, cut: Cut, form: str, run: Run | None, photo: Image.Image
) -> Gap | None:
    if run is None:
        return None
    pixels = detector.prepare([photo], cut.size).float().cpu().contiguous()
    difference = gap(reference(detector, cut, photo), *run(photo, pixels), photo.size, ALIKE[form])
    if not max(difference.score, difference.box) <= TOLERANCE[form]:  # so that NaN fails, too
        raise Unprocessable(
            f"{detector.checkpoint} at {cut.layers} layers as {form} differs from the demo's own "
            f"pass by {difference.score:.1g} in score and {difference.box:.1g} in a box, which is "
            "too much to use it. Choose another format."
        )
    return difference


def _write_transformers(
    detector: Detector, cut: Cut, about: dict[str, Any] | None, folder: Path
) -> Run:
    assert detector.folder is not None, "loaded from a folder"
    model, processor = read_checkpoint(detector.checkpoint, detector.folder)
    _drop_layers(model.eval(), cut)
    if cut.size is not None:
        processor.size = {"height": cut.size, "width": cut.size}
        processor.do_resize, processor.do_pad = True, False
    model.save_pretrained(folder, state_dict=_compact(model))
    processor.save_pretrained(folder)
    script = (_SCRIPTS / "detect_transformers.py").read_text(encoding="utf-8")
    is_own = model.config.backbone_config.model_type == "efficientnet_lite"
    script = script.replace(_PLAIN_BACKBONE, _OWN_BACKBONE if is_own else "")
    (folder / "detect.py").write_text(script, encoding="utf-8")
    if is_own:
        shutil.copyfile(efficientnet_lite.__file__, folder / "efficientnet_lite.py")
    saved = AutoModelForObjectDetection.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()

    @torch.inference_mode()
    def run(image: Image.Image, pixels: torch.Tensor) -> Candidates:
        size = [(image.height, image.width)]
        output = saved(**processor(images=image, return_tensors="pt"))
        [detected] = processor.post_process_object_detection(output, 0.0, size)
        sides = np.array([*image.size, *image.size])
        return (
            detected["scores"].numpy(),
            detected["labels"].numpy(),
            detected["boxes"].numpy() / sides,
        )

    return run


def _drop_layers(model: Any, cut: Cut) -> None:
    decoder = model.model.decoder
    heads = [
        getattr(module, name, None)
        for module in (decoder, model)  # an RT-DETRv2 has the heads in both
        for name in ("class_embed", "bbox_embed")
    ]
    for modules in (decoder.layers, *heads):
        if modules is not None:
            del modules[cut.layers :]
    model.config.decoder_layers, model.config.num_queries = cut.layers, cut.queries
    if cut.layers == 1:
        # transformers cannot load an RT-DETRv2 whose heads of a single layer are tied.
        model.config.tie_word_embeddings = False


def _compact(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights, in float16 where it holds every one of a tensor exactly."""
    state = {}
    for name, value in model.state_dict().items():
        halves = value.half() if value.is_floating_point() else value
        state[name] = halves if halves.to(value.dtype).equal(value) else value
        if not getattr(model.config, "tie_word_embeddings", False):
            state[name] = state[name].clone()  # shared tensors are saved under one name alone
    return state


def _write_onnx(
    detector: Detector, cut: Cut, about: dict[str, Any] | None, folder: Path
) -> Run | None:
    assert about is not None
    file = folder / "model.onnx"
    onnx.save(to_onnx(detector, cut, about), file)
    shutil.copyfile(_SCRIPTS / "detect_onnx.py", folder / "detect.py")
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(image: Image.Image, pixels: torch.Tensor) -> Candidates:
        scores, labels, boxes = session.run(list(OUTPUTS), {INPUT: pixels.numpy()})
        return scores[0], labels[0], boxes[0]

    return run


def _write_openvino(
    detector: Detector, cut: Cut, about: dict[str, Any] | None, folder: Path
) -> Run:
    assert about is not None
    file = folder / "model.xml"
    try:
        to_openvino(to_onnx(detector, cut, about), file)
    except ImportError:
        raise Unprocessable(
            "OpenVINO is not installed here: run pip install openvino, or choose --format onnx."
        ) from None
    openvino = import_openvino()
    text = json.dumps(about, indent=2) + "\n"
    file.with_suffix(".json").write_text(text, encoding="utf-8")
    shutil.copyfile(_SCRIPTS / "detect_openvino.py", folder / "detect.py")
    compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: Image.Image, pixels: torch.Tensor) -> Candidates:
        outputs = compiled(pixels.numpy())
        scores, labels, boxes = (outputs[name][0] for name in OUTPUTS)
        return scores, labels, boxes

    return run


_WRITERS: dict[str, Callable[[Detector, Cut, dict[str, Any] | None, Path], Run | None]] = {
    TRANSFORMERS: _write_transformers,
    ONNX: _write_onnx,
    OPENVINO: _write_openvino,
}
