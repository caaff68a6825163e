"""The example pictures of the page, and what the bundled checkpoint says of them.

Both are made once, by `python -m rtdetr_demo examples`, and shipped among the page's files, so that
a first visit shows detections before any model has been loaded.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from ..checkpoints.catalog import BUNDLED_FOLDER
from ..checkpoints.files import CONFIGS, INDEX
from ..media.images import read_picture
from .front_end import STATIC
from .pictures import EXAMPLES, colors

if TYPE_CHECKING:
    from ..detector.detector import Detector

SHIPPED = STATIC / "examples"

TITLES = {
    "cows.jpg": "Cows",
    "sheep.jpg": "A sheep",
    "cat.jpg": "A kitten",
    "horses.jpg": "Horses",
    "swans.jpg": "Swans and cygnets",
    "wine.jpg": "A bottle of wine",
    "dogs.jpg": "Two dogs",
    "musicians.jpg": "Musicians",
}
"""In the order of the filmstrip; the first is what a first visit shows."""

HARD = frozenset({"horses.jpg", "dogs.jpg", "musicians.jpg"})
"""Examples that the filmstrip marks as hard for the bundled checkpoint."""

DISPLAY_SIZE = 1080
THUMBNAIL = (108, 76)
LOWEST_SCORE = 0.02
"""Longest side of the shown picture and size of a thumbnail, in pixels; candidates below
`LOWEST_SCORE` are not shipped."""

INSPECTED_SCORE = 0.25
"""Of queries that never score this after any layer, the points and rivals are not shipped."""


def picture_name(example: str) -> str:
    """Name of the shown picture among the page's files."""
    return f"examples/{Path(example).stem}.webp"


def predictions_name(example: str) -> str:
    """Name of the shipped predictions among the page's files."""
    return f"examples/{Path(example).stem}.json"


def inspection_name(example: str) -> str:
    """Name of the shipped inspection among the page's files."""
    return f"examples/{Path(example).stem}.inspection.json"


def index() -> list[dict]:
    """What the page needs to know of every example: name, title, whether it is hard, files,
    thumbnail, stamp."""
    return json.loads((SHIPPED / "index.json").read_text(encoding="utf-8"))


def stamp(example: str) -> str:
    """First 16 hex digits of SHA-256 over the bundled checkpoint and the example picture; changes
    when predictions must be remade."""
    digest = hashlib.sha256()
    for path in (
        *(BUNDLED_FOLDER / name for name in sorted([*CONFIGS, INDEX])),
        *sorted(BUNDLED_FOLDER.glob("*.safetensors")),
    ):
        digest.update(path.read_bytes())
    digest.update((EXAMPLES / example).read_bytes())
    return digest.hexdigest()[:16]


def make(detector: "Detector", folder: Path = SHIPPED) -> Iterator[str]:
    """Write every file anew; gives the name of each example when it is done.

    `detector`: on PyTorch; for what is shipped, the bundled checkpoint. Times are left out, so that
    the same weights give the same files.
    """
    # It brings PyTorch along, which a page that starts does not wait for.
    from ..detector.inspection import inspect

    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for example, title in TITLES.items():
        image = read_picture((EXAMPLES / example).read_bytes())
        stem = Path(example).stem
        shown = (
            ImageOps.contain(image, (DISPLAY_SIZE,) * 2)
            if max(image.size) > DISPLAY_SIZE
            else image
        )
        (folder / f"{stem}.webp").write_bytes(_webp(shown, 74))
        predictions = detector.detect(image)
        content = predictions.for_browser(lowest=LOWEST_SCORE)
        del content["timing_ms"]
        found = {label for layer in content["layers"] for label in layer["labels"]}
        known = colors(predictions.class_names)
        content["colors"] = {
            predictions.class_names[i]: known[predictions.class_names[i]] for i in sorted(found)
        }
        (folder / f"{stem}.json").write_text(
            json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8"
        )
        inspection = inspect(detector, image).to_json(threshold=INSPECTED_SCORE)
        (folder / f"{stem}.inspection.json").write_text(
            json.dumps(inspection, separators=(",", ":")) + "\n", encoding="utf-8"
        )
        thumbnail = _webp(ImageOps.fit(image, THUMBNAIL), 70)
        entries.append(
            {
                "name": example,
                "title": title,
                "hard": example in HARD,
                "width": image.width,
                "height": image.height,
                "picture": picture_name(example),
                "predictions": predictions_name(example),
                "inspection": inspection_name(example),
                "thumbnail": "data:image/webp;base64," + base64.b64encode(thumbnail).decode(),
                "checkpoint": detector.checkpoint,
                "stamp": stamp(example),
            }
        )
        yield example
    (folder / "index.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()
