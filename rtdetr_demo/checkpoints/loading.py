"""From a checkpoint's name to a loaded detector, for one-off commands."""

import torch

from ..detector.detector import Detector
from ..errors import CheckpointError
from . import hub


def load(checkpoint: str, device: torch.device | None = None) -> Detector:
    """Load a checkpoint for a command, from the hub if it is not on this machine."""
    folder = hub.local_folder(checkpoint)
    if folder is None:
        reason = hub.why_unreachable(checkpoint)
        if reason:
            raise CheckpointError(reason)
        hub.Download(checkpoint).wait()
        folder = hub.local_folder(checkpoint)
        assert folder is not None, "a finished download is in the cache"
    return Detector.load(checkpoint, folder, device)
