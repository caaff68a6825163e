"""A checkpoint's files before anything is built of them: can they be used here, and why not.

Needs neither PyTorch nor transformers, so that a page can ask before these are imported.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"

MODEL_TYPES = ("rt_detr", "rt_detr_v2")

# Several times what any published RT-DETR has.
_JSON_BYTES = 8 * 2**20
_JSON_DEPTH = 32
_HEADER_BYTES = 4 * 2**20
_LABEL = 200

_SIDES = ({"height", "width"}, {"shortest_edge", "longest_edge"}, {"max_height", "max_width"})
"""What a processor's size may name."""

_CONVERT = (
    "Convert it on a machine where you trust it: AutoModelForObjectDetection.from_pretrained("
    "FOLDER).save_pretrained(NEW_FOLDER) of transformers writes model.safetensors"
)

_PROCESSOR_HOW = (
    "Save the image processor that it was trained with beside the weights: "
    "processor.save_pretrained(FOLDER)"
)


def check_files(checkpoint: str, folder: Path) -> None:
    """Raises CheckpointError, naming the file and the reason, where a folder's configurations or
    weights cannot be used here."""
    config = read_json(checkpoint, folder / CONFIG)
    if reason := _config_problem(config):
        raise CheckpointError(f"{checkpoint} {reason}.")
    if reason := missing_file(names_in(folder)):
        raise CheckpointError(f"{checkpoint} {reason}.")
    processor = read_json(checkpoint, folder / PROCESSOR)
    if reason := _processor_problem(processor):
        raise CheckpointError(f"{checkpoint} cannot be used: {PROCESSOR} {reason}.")
    for file in sorted(folder.glob("*.safetensors")):
        _check_header(checkpoint, file)


def names_in(folder: Path) -> set[str]:
    """Names of the files of a folder; none where it cannot be read."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def missing_file(names: set[str]) -> str | None:
    """Which file a checkpoint lacks to be one, the end of a sentence that begins with its name;
    None where it lacks none."""
    if CONFIG not in names:
        return f"has no {CONFIG}, so it cannot be an RT-DETR checkpoint"
    if not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        binary = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        if binary:
            return f"has only {binary[0]}, which can run code when it is opened. {_CONVERT}"
        return "has no model.safetensors, so it has no weights that can be loaded here"
    if PROCESSOR not in names:
        return f"has no {PROCESSOR}, so how to prepare pictures for it is unknown. {_PROCESSOR_HOW}"
    return None


def read_json(checkpoint: str, path: Path) -> dict[str, Any]:
    """An object of JSON. Raises CheckpointError, naming the file, where it is none, is missing, or
    is larger or more deeply nested than any configuration."""
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise CheckpointError(
                f"{checkpoint} cannot be used: its {path.name} is larger than "
                f"{_JSON_BYTES // 2**20} MB."
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(
            f"{checkpoint} has no {path.name} that can be read. Add it, or choose another "
            "checkpoint."
        ) from None
    except RecursionError:
        content = [[]] * (_JSON_DEPTH + 1)
        deep = True
    except ValueError:
        content, deep = None, False
    else:
        deep = _is_deep(content)
    if deep:
        raise CheckpointError(
            f"{checkpoint} cannot be used: its {path.name} is nested more than {_JSON_DEPTH} "
            "levels deep."
        )
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{checkpoint} could not be loaded: its {path.name} is damaged. Choose another "
            "checkpoint, or delete its files and download it again."
        )
    return content


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(_JSON_DEPTH):
        level = [
            value
            for item in level
            if isinstance(item, dict | list)
            for value in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _config_problem(config: dict[str, Any]) -> str | None:
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        if not isinstance(kind, str):
            return f"could not be loaded: its {CONFIG} names no model_type"
        return f"is a {kind[:40]} model, not an RT-DETR. Choose an RT-DETR or RT-DETRv2 checkpoint"
    backbone = config.get("backbone_config")
    backbone = backbone if isinstance(backbone, dict) else {}
    if config.get("use_timm_backbone") or str(backbone.get("model_type")).startswith("timm"):
        name = backbone.get("backbone") or config.get("backbone") or "its backbone"
        return (
            f"cannot be used: its {CONFIG} takes {str(name)[:40]} from the package timm, which is "
            "not installed here. Choose a checkpoint whose backbone is part of transformers"
        )
    if config.get("learn_initial_query"):
        return (
            f"cannot be used: its {CONFIG} sets learn_initial_query, and the layers are shown here "
            "for queries that come from the picture only"
        )
    anchors = config.get("anchor_image_size")
    if anchors is not None and not (
        isinstance(anchors, list)
        and len(anchors) == 2
        and all(isinstance(side, int) and side > 0 for side in anchors)
    ):
        return (
            f"cannot be used: anchor_image_size in its {CONFIG} is not a height and a width in "
            "pixels"
        )
    labels = config.get("id2label")
    if labels is not None and not isinstance(labels, dict):
        return f"cannot be used: id2label in its {CONFIG} is not an object of names by number"
    for number, name in (labels or {}).items():
        if not str(number).lstrip("-").isdecimal():
            return f"cannot be used: id2label in its {CONFIG} has a key that is not a number"
        if len(str(name)) > _LABEL:
            return (
                f"cannot be used: label {str(number)[:20]} in its {CONFIG} has more than {_LABEL} "
                "characters"
            )
    return None


def _processor_problem(processor: dict[str, Any]) -> str | None:
    for name in ("size", "pad_size"):
        size = processor.get(name)
        sides = size.values() if isinstance(size, dict) else [size]
        for side in sides:
            if side is None:
                continue
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                return f"has a {name} of {str(side)[:20]}, and it must be a number of pixels from 1"
    size = processor.get("size")
    if size is not None and processor.get("do_resize") is not False:
        named = {key for key, side in size.items() if side} if isinstance(size, dict) else set()
        if not any(pair <= named for pair in _SIDES):
            return "has a size without height and width or shortest_edge and longest_edge"
    return None


def _check_header(checkpoint: str, file: Path) -> None:
    """safetensors begin with the length of a header that describes each tensor."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        room = file.stat().st_size - 8
    except OSError:
        return  # reading the weights says what is wrong
    if _HEADER_BYTES < length <= room:
        raise CheckpointError(
            f"{checkpoint} cannot be used: {file.name} has a header of {length / 1e6:.0f} MB, "
            "which describes many more tensors than an RT-DETR has."
        )
    if not 2 <= length <= room:
        raise CheckpointError(
            f"{checkpoint} could not be loaded: {file.name} is damaged or incomplete. Choose "
            "another checkpoint, or delete its files and download it again."
        )
