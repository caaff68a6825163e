"""What the page knows when it starts: one JSON value, for a page with a server and without."""

import json
import os
import platform
import re
from functools import cache
from importlib.metadata import version
from typing import Any

from .. import __version__
from ..checkpoints.catalog import BUNDLED, BUNDLED_FOLDER, CATALOGUE
from ..evaluation.faithfulness import shipped
from ..media.images import MAX_BYTES
from ..serving.service import Service
from . import examples
from .front_end import FrontEnd


def page_config(service: Service, front_end: FrontEnd) -> dict[str, Any]:
    """The configuration of a page that this service stands behind; `PageConfig` in `types.js`.

    Addresses in it are relative to the page's own files, `front_end.root`.
    """
    settings = service.settings
    return {
        **static_config(front_end),
        "anyCheckpoint": settings.any_checkpoint,
        "apiAccess": settings.api_access,
        "limits": {
            "pictureBytes": MAX_BYTES,
            "videoBytes": settings.video_mb * 2**20,
            "videoMinutes": settings.video_minutes,
        },
        "serving": service.checkpoints.active,
        "wanted": service.checkpoints.wanted,
        "runtimes": ["server"] if settings.device_runtime == "off" else ["server", "device"],
        "machine": machine(),
        "liveRuntime": "device" if settings.device_runtime == "live" else "server",
    }


@cache
def machine() -> dict[str, str | int]:
    """What this server runs on, and its versions, for exports of measurements."""
    return {
        "processor": platform.processor() or platform.machine(),
        "CPU cores": os.cpu_count() or 0,
        "rtdetr-demo": __version__,
        **{name: version(name) for name in ("torch", "transformers")},
    }


def static_config(front_end: FrontEnd) -> dict[str, Any]:
    """The part of `page_config` that is the same without a server: checkpoints and examples."""
    shipped = examples.index()
    first = front_end.content(shipped[0]["predictions"])
    assert first, "index.json lists only what is there"
    return {
        "checkpoints": [
            {
                **one.to_json(),
                "measured": measured() if one.id == BUNDLED else None,
                "faithfulness": faithfulness() if one.id == BUNDLED else None,
            }
            for one in CATALOGUE
        ],
        "examples": shipped,
        "first": json.loads(first),
    }


@cache
def measured() -> dict[str, list[float]] | None:
    """What the bundled checkpoint's model card reports for each depth: AP in percent, and
    milliseconds where it was measured."""
    rows = re.findall(
        r"^\| (\d+) \|((?: [\d.]+ \|)+)$",
        (BUNDLED_FOLDER / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    if not rows:
        return None
    cells = [[float(cell) for cell in row.split("|") if cell.strip()] for _, row in rows]
    return {"ap": [row[0] for row in cells], "ms": [row[-1] for row in cells]}


@cache
def faithfulness() -> str | None:
    """Whether the bundled checkpoint's detections rest on what they looked at: a sentence."""
    tested = shipped(BUNDLED_FOLDER)
    return tested.sentence() if tested else None
