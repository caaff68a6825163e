"""From a checkpoint's name to a loaded detector."""

import logging
import threading
from pathlib import Path

import torch

from ..detector.detector import Detector
from ..errors import CheckpointError
from . import hub
from .catalog import BUNDLED, display_name, fallback_message, is_listed
from .files import check_bounds

log = logging.getLogger(__name__)


def load(
    checkpoint: str,
    runtime: str = "torch",
    device: torch.device | None = None,
    *,
    name: str | None = None,
    stop: threading.Event | None = None,
) -> Detector:
    """Load a checkpoint, downloading it from the hub if it is not on this machine.

    Args:
        checkpoint: Hub id, local folder or "bundled".
        runtime: As `Settings.runtime`; with "auto" and "bf16" a faster runtime is prepared, which
            takes some seconds.
        device: The best one that is available by default.
        name: What the detector is called; `display_name` by default.
        stop: Ends the preparation early when it is set.

    Raises:
        CheckpointError: The checkpoint is unknown, unreachable or not an RT-DETR.
    """
    path = Path(checkpoint).expanduser()
    # A folder that lacks files is loaded, too, for the message that says which.
    folder = hub.local_folder(checkpoint) or (path if path.is_dir() else _download(checkpoint))
    name = name or display_name(checkpoint)
    if not is_listed(checkpoint):
        check_bounds(name, folder)
    detector = Detector.load(name, folder, device)
    prepare(detector, runtime, stop=stop)
    return detector


def load_or_bundled(
    checkpoint: str, runtime: str = "torch", device: torch.device | None = None
) -> Detector:
    """Load a checkpoint, or the bundled one, with a message in the log, if it cannot be loaded."""
    try:
        return load(checkpoint, runtime, device)
    except CheckpointError as error:
        log.warning(fallback_message(checkpoint, error))
        return load(BUNDLED, runtime, device)


def prepare(
    detector: Detector,
    runtime: str,
    depth: int | None = None,
    stop: threading.Event | None = None,
) -> bool:
    """Prepare the runtime that `Settings.runtime` names; with `depth`, for passes that end there.

    Returns whether a faster runtime than PyTorch is ready.
    """
    half = runtime == "bf16"
    return runtime != "torch" and detector.accelerate(depth=depth, half=half, stop=stop)


def _download(checkpoint: str) -> Path:
    reason = hub.why_unreachable(checkpoint)
    if reason:
        raise CheckpointError(reason)
    hub.Download(checkpoint).wait()
    folder = hub.local_folder(checkpoint)
    assert folder is not None, "a finished download is in the cache"
    return folder
