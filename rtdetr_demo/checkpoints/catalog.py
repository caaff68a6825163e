"""The checkpoints we know by name, and what was published about each.

Published figures: COCO val2017 at 640x640; frames per second on one T4, batch 1, TensorRT FP16.
Sources: the model page of `PekingU/rtdetr_r50vd_coco_o365` (rows with every column) and the README
of the official repository, lyuwenyu/RT-DETR (the rest). `None` is a figure that neither gives.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Published:
    """Millions of parameters, GFLOPs per 640x640 image, T4 frames per second, COCO AP (percent)."""

    params: float | None = None
    gflops: float | None = None
    t4_fps: float | None = None
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_s: float | None = None
    ap_m: float | None = None
    ap_l: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of the picker: `id` is a hub id, a folder, or `BUNDLED`."""

    id: str
    title: str
    trained_on: str
    decoder_layers: int | None = None
    published: Published = Published()
    threshold: float = 0.5
    """Where the page's threshold starts: what suits how sure of itself the checkpoint is."""

    def to_json(self) -> dict:
        return asdict(self)


_O365 = "COCO + Objects365"

CATALOGUE = (
    Checkpoint("PekingU/rtdetr_r50vd_coco_o365", "RT-DETR R50", _O365, 6,
               Published(42, 136, 108, 55.3, 73.4, 60.1, 37.9, 59.9, 71.8)),
    Checkpoint("PekingU/rtdetr_r101vd_coco_o365", "RT-DETR R101", _O365, 6,
               Published(76, 259, 74, 56.2, 74.6, 61.3, 38.3, 60.5, 73.5)),
    Checkpoint("PekingU/rtdetr_r50vd", "RT-DETR R50", "COCO", 6,
               Published(42, 136, 108, 53.1, 71.3, 57.7, 34.8, 58.0, 70.0)),
    Checkpoint("PekingU/rtdetr_r101vd", "RT-DETR R101", "COCO", 6,
               Published(76, 259, 74, 54.3, 72.7, 58.6, 36.0, 58.8, 72.1)),
    Checkpoint("PekingU/rtdetr_r18vd_coco_o365", "RT-DETR R18", _O365, 3,
               Published(20, 60, 217, 49.2, 66.6)),
    Checkpoint("PekingU/rtdetr_r18vd", "RT-DETR R18", "COCO", 3,
               Published(20, 60, 217, 46.5, 63.8)),
    Checkpoint("PekingU/rtdetr_r34vd", "RT-DETR R34", "COCO", 4,
               Published(31, 92, 161, 48.9, 66.8)),
    Checkpoint("PekingU/rtdetr_v2_r18vd", "RT-DETRv2 R18", "COCO", 3,
               Published(20, 60, 217, 48.1, 65.1)),
    Checkpoint("PekingU/rtdetr_v2_r34vd", "RT-DETRv2 R34", "COCO", 4,
               Published(31, 92, 161, 49.9, 67.5)),
    Checkpoint("PekingU/rtdetr_v2_r50vd", "RT-DETRv2 R50", "COCO", 6,
               Published(42, 136, 108, 53.4, 71.6)),
    Checkpoint("PekingU/rtdetr_v2_r101vd", "RT-DETRv2 R101", "COCO", 6,
               Published(76, 259, 74, 54.3, 72.8)),
    Checkpoint(BUNDLED, "Bundled RT-DETR", "20 everyday classes", 6, Published(5.9), 0.56),
)  # fmt: skip

_BY_ID = {checkpoint.id: checkpoint for checkpoint in CATALOGUE}


def describe(checkpoint: str) -> Checkpoint:
    """The catalogue's entry, or a bare one for a hub id or folder of the user's own."""
    return _BY_ID.get(checkpoint) or Checkpoint(checkpoint, checkpoint, "not stated")


def is_listed(checkpoint: str) -> bool:
    """Whether the picker offers it without the operator's leave."""
    return checkpoint in _BY_ID


def display_name(checkpoint: str) -> str:
    """The name that users see: a folder's last part, so that they do not learn where it lies; a
    hub id or "bundled" as it is."""
    is_folder = checkpoint != BUNDLED and os.path.isdir(os.path.expanduser(checkpoint))
    return Path(checkpoint).expanduser().resolve().name if is_folder else checkpoint


def fallback_message(checkpoint: str, error: Exception) -> str:
    """What a user reads when the bundled checkpoint is used instead of the configured one."""
    return f"{error} Using the bundled checkpoint instead of {display_name(checkpoint)}."
