"""The files of a checkpoint in the hub's layout, and what they may ask for."""

import json
import re
from pathlib import Path
from typing import Any

from ..detector.checkpoint_files import check_files, read_json
from ..errors import CheckpointError

CONFIGS = ("config.json", "preprocessor_config.json")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Weights are one file, or several that an index names."""

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")

# Several times what any published RT-DETR has.
_LIMITS: dict[str, int] = {
    "num_queries": 1000,
    "num_denoising": 1000,
    "num_feature_levels": 8,
    "decoder_n_points": 32,
    "decoder_layers": 24,
    "encoder_layers": 24,
    "encoder_attention_heads": 64,
    "decoder_attention_heads": 64,
    "num_labels": 10_000,
    "positional_encoding_temperature": 10**6,
}
_MAX_CHANNELS = 8192
_MAX_BLOCKS = 200
_MAX_PIXELS = 2048
_MAX_PARAMETERS = 500_000_000


def weight_files(folder: Path) -> list[Path] | None:
    """The files that hold the weights, or None where one is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    try:
        files = [folder / name for name in shards((folder / INDEX).read_bytes())]
    except (OSError, CheckpointError):
        return None
    return files if all(file.is_file() for file in files) else None


def shards(index: bytes) -> list[str]:
    """The files that an index names. Raises CheckpointError where it is none."""
    try:
        names = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        names = []
    if not names or not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names):
        raise CheckpointError(
            "The index of this checkpoint's weights is damaged. Choose another checkpoint, or "
            "delete its files and download it again."
        )
    return names


def weights_bytes(folder: Path) -> int:
    """What the weights take in memory, or a little less where they are stored in half precision."""
    return sum(file.stat().st_size for file in weight_files(folder) or [])


def check_bounds(checkpoint: str, folder: Path) -> None:
    """Raises CheckpointError for files that would take a server's memory or time, or that cannot
    be used here.

    For checkpoints that visitors name: nothing is built before this.
    """
    check_files(checkpoint, folder)
    config, processor = (read_json(checkpoint, folder / name) for name in CONFIGS)
    reason = _excess(config) or _excess(processor)
    if reason is None and _parameters(folder) > _MAX_PARAMETERS:
        reason = f"more than {_MAX_PARAMETERS / 1e6:.0f} million parameters"
    if reason:
        raise CheckpointError(f"{checkpoint[:100]} asks for {reason}, which is not loaded here.")


def _excess(config: Any, name: str = "") -> str | None:
    """What a configuration asks too much of."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in ("id2label", "label2id"):
                if len(value or ()) > _LIMITS["num_labels"]:
                    return "too many labels"
            elif found := _excess(value, str(key)):
                return found
    elif isinstance(config, list):
        if len(config) > 1000:
            return f"too many entries in {name[:40]}"
        numbers = [value for value in config if isinstance(value, int)]
        if name == "depths" and sum(numbers) > _MAX_BLOCKS:
            return f"more than {_MAX_BLOCKS} blocks"
        for value in config:
            if found := _excess(value, name):
                return found
    elif isinstance(config, int | float) and not isinstance(config, bool):
        limit = _LIMITS.get(name, _MAX_CHANNELS)
        if name in ("height", "width", "shortest_edge", "longest_edge", "eval_size"):
            limit = _MAX_PIXELS
        if not -limit <= config <= limit:
            return f"{name[:40]} = {str(config)[:20]}"
    return None


def _parameters(folder: Path) -> int:
    """Counted on a model without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForObjectDetection

    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            model = AutoModelForObjectDetection.from_config(config)
    except Exception:
        return 0  # loading says what is wrong
    return sum(parameter.numel() for parameter in model.parameters())
