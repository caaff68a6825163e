"""From a folder in the hub's layout to transformers' model and image processor."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForObjectDetection, PreTrainedModel, RTDetrImageProcessorPil

from ..errors import CheckpointError
from . import efficientnet_lite as _efficientnet_lite  # noqa: F401  (registers the bundled checkpoint's backbone)
from .checkpoint_files import CONFIG, check_files
from .devices import is_out_of_memory

log = logging.getLogger(__name__)


def read_checkpoint(
    checkpoint: str, folder: Path
) -> tuple[PreTrainedModel, RTDetrImageProcessorPil]:
    """Load an RT-DETR or RT-DETRv2 on the CPU in float32.

    Raises CheckpointError where the folder holds none, or one that cannot run here.
    """
    check_files(checkpoint, folder)
    try:
        model, report = AutoModelForObjectDetection.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
        )
        processor = RTDetrImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # Whatever a damaged or foreign file makes the loaders raise: there is no end of kinds.
        log.warning("%s could not be loaded: %r", checkpoint, error)
        raise CheckpointError(load_failure(checkpoint, error)) from error
    if mismatched := sorted(report["mismatched_keys"], key=str):
        name, stored, built = mismatched[0]
        raise CheckpointError(
            f"{checkpoint} cannot be used: its {CONFIG} and its weights differ ({name} has shape "
            f"{tuple(stored)} in the weights and {tuple(built)} by id2label or other settings)."
        )
    if missing := sorted(map(str, report["missing_keys"])):
        # transformers would fill these with random numbers.
        raise CheckpointError(
            f"{checkpoint} could not be loaded: its weights are incomplete, {missing[0]} is "
            "missing. Choose another checkpoint, or delete its files and download it again."
        )
    return model, processor


def load_failure(checkpoint: str, error: BaseException) -> str:
    """What a person reads where loading failed for a reason that was not foreseen."""
    if is_out_of_memory(error):
        return (
            f"{checkpoint} could not be loaded: this machine has too little free memory. Choose a "
            "smaller checkpoint, or try again later."
        )
    return (
        f"{checkpoint} could not be loaded: its files are damaged or incomplete. "
        "Choose another checkpoint, or delete its files and download it again."
    )


def class_names(config: Any) -> tuple[str, ...]:
    """The name of each class of the network, by its number.

    Numbers that `id2label` leaves out get the names that transformers gives to those without.
    """
    labels: Mapping[int, Any] = config.id2label or {}
    return tuple(str(labels.get(i, f"LABEL_{i}")) for i in range(config.num_labels))
