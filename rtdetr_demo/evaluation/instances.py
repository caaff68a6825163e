"""COCO annotation files."""

import json
from pathlib import Path
from typing import Any

from ..errors import BadInput

FIELDS = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area"},
    "categories": {"id", "name"},
}
"""What each entry of a list must have."""


def read_instances(path: Path) -> dict[str, Any]:
    """A COCO annotation file as it stands. Raises BadInput where it is none."""
    try:
        instances = json.loads(path.read_bytes())  # UTF-8 or UTF-16, with a mark or not
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}.") from None
    except ValueError:
        raise BadInput(f"{path} is no JSON file.") from None
    if not isinstance(instances, dict) or not all(
        isinstance(instances.get(name), list) for name in FIELDS
    ):
        raise BadInput(f"{path} is no COCO file: it needs images, annotations and categories.")
    for name, fields in FIELDS.items():
        for entry in instances[name]:
            if lacking := fields - set(entry if isinstance(entry, dict) else ()):
                raise BadInput(
                    f"{path} is no COCO file: one of its {name} lacks {', '.join(sorted(lacking))}."
                )
    return instances
