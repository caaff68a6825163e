"""The page as a folder that any static host serves: what a server would detect, the visitor's own
device does."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ..checkpoints.catalog import describe
from ..errors import BadInput
from . import examples
from .config import static_config
from .device_files import DeviceFiles
from .front_end import STATIC, FrontEnd
from .pictures import EXAMPLES

if TYPE_CHECKING:
    from ..detector.detector import Detector

TEMPLATES = STATIC / "site"
CONFIG = "config.json"


def build(detector: "Detector", out: Path) -> Iterator[str]:
    """Write the site into `out`, a new or empty folder; gives a word on each step.

    It stands under any path, as all its addresses are relative. Raises BadInput where the folder
    holds something, Unprocessable for a checkpoint that browsers cannot run.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is not an empty folder. Name a new one, or empty it first.")
    front_end = FrontEnd()
    yield "the model"
    files = DeviceFiles(out / "page" / "models")
    model = files.model_for(detector)
    version = model["manifest"].split("/")[-2][:8]
    root = out / f"{front_end.root}-{version}"
    yield "the page"
    for name in front_end.names:
        if not name.startswith(("examples/", "site/", "vendor/")):
            _write(root / name, front_end.content(name))
    shutil.copytree(STATIC / "vendor", out / "page" / "vendor")
    for name in examples.make(detector, root / "examples"):
        yield f"the example {name}"
        (out / "page" / "originals").mkdir(exist_ok=True)
        shutil.copyfile(EXAMPLES / name, out / "page" / "originals" / name)
    config = _config(detector, front_end, root, model)
    (root / CONFIG).write_text(json.dumps(config, separators=(",", ":")), encoding="utf-8")
    yield "the frame"
    _write_frame(out, root, front_end, describe(detector.checkpoint).title)


def _config(
    detector: "Detector", front_end: FrontEnd, root: Path, model: dict[str, Any]
) -> dict[str, Any]:
    """`PageConfig` of `types.js`, for a page without a server."""
    name = detector.checkpoint
    shown = json.loads((root / "examples" / "index.json").read_text(encoding="utf-8"))
    first = json.loads((root / shown[0]["predictions"]).read_text(encoding="utf-8"))
    known = static_config(front_end)["checkpoints"]
    own = {**describe(name).to_json(), "decoder_layers": detector.depth, "measured": None}
    return {
        "checkpoints": [one for one in known if one["id"] == name] or [own],
        "examples": shown,
        "first": first,
        "serving": name,
        "wanted": name,
        "runtimes": ["device"],
        "liveRuntime": "device",
        "deviceModels": {name: model},
    }


def _write_frame(out: Path, root: Path, front_end: FrontEnd, title: str) -> None:
    """What is not the page's own: the document, the service worker, the host's settings."""
    base = root.relative_to(out).as_posix()
    preloads = "\n    ".join(
        f'<link rel="modulepreload" href="{base}/{name}" />' for name in front_end.modules
    )
    # The model and the runtime are large, and kept by the page itself when they are asked for.
    kept = sorted(
        path.relative_to(out).as_posix()
        for path in (out / "page").rglob("*")
        if path.is_file() and path.suffix not in (".onnx", ".gz", ".txt", ".md", ".map")
    )
    words = {
        "base": base,
        "preloads": preloads,
        "title": title,
        "files": json.dumps(["./", *kept], indent=2),
        "version": root.name,
    }
    for name in ("index.html", "service_worker.js", "README.md"):
        content = Template((TEMPLATES / f"{name}.template").read_text(encoding="utf-8")).substitute(
            words
        )
        (out / name).write_text(content, encoding="utf-8")


def _write(path: Path, content: bytes | None) -> None:
    assert content is not None, f"{path.name} is one of the front end's files"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
