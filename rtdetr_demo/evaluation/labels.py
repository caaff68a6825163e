"""Labels of a folder of pictures, in COCO's or YOLO's form."""

import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..errors import BadInput
from .instances import read_instances

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt")
"""Files that name the classes of YOLO labels, in the label folder or the one above it."""


class Labels(Protocol):
    """The labels of a set of pictures.

    Attributes:
        categories: COCO's categories: `id` and `name` of each.
    """

    categories: list[dict[str, Any]]

    def entry(self, file: str, width: int, height: int) -> dict[str, Any] | None:
        """COCO's image entry of a picture; None where it is not labelled.

        Args:
            file: The picture's path relative to its folder, with slashes.
            width: Of the picture, in pixels.
            height: Of the picture, in pixels.

        Raises:
            BadInput: Its labels cannot be read.
        """

    def annotations(self, images: Sequence[int]) -> list[dict[str, Any]]:
        """COCO's annotations of images, by their ids."""


def read_labels(path: Path) -> Labels:
    """Open a COCO file, or a folder of YOLO's text files. Raises BadInput where it is neither."""
    return YoloLabels(path) if path.is_dir() else CocoLabels(read_instances(path), str(path))


class CocoLabels:
    """The labels of a COCO file. Pictures are found by their path, else by their file name alone
    where only one image of the file has it."""

    def __init__(self, instances: dict[str, Any], name: str):
        """Take what `read_instances` gives for the file `name`. Raises BadInput where sizes of
        images are not positive numbers."""
        self.categories: list[dict[str, Any]] = instances["categories"]
        for image in instances["images"]:
            if not _is_positive(image["width"]) or not _is_positive(image["height"]):
                raise BadInput(f"{name} is no COCO file: one of its images has no size in pixels.")
        self._annotations: list[dict[str, Any]] = instances["annotations"]
        self._by_path = {str(image["file_name"]): image for image in instances["images"]}
        names = Counter(posixpath.basename(path) for path in self._by_path)
        self._by_name = {
            posixpath.basename(path): image
            for path, image in self._by_path.items()
            if names[posixpath.basename(path)] == 1
        }

    def entry(self, file: str, width: int, height: int) -> dict[str, Any] | None:
        return self._by_path.get(file) or self._by_name.get(posixpath.basename(file))

    def annotations(self, images: Sequence[int]) -> list[dict[str, Any]]:
        wanted = set(images)
        return [annotation for annotation in self._annotations if annotation["image_id"] in wanted]


class YoloLabels:
    """The labels of a folder with one text file for each picture: `class centre_x centre_y width
    height` in each line, as shares of the picture.

    A picture's file has its name with the ending .txt. A picture without a file is not labelled;
    one with an empty file has no objects.
    """

    def __init__(self, folder: Path):
        """Open a folder. Raises BadInput where no file names its classes."""
        self._folder = folder
        names = _read_names(folder)
        self.categories = [{"id": number, "name": name} for number, name in names.items()]
        self._classes = set(names)
        self._read: list[dict[str, Any]] = []
        self._count = 0

    def entry(self, file: str, width: int, height: int) -> dict[str, Any] | None:
        path = PurePosixPath(file).with_suffix(".txt")
        for candidate in (self._folder / path, self._folder / path.name):
            if candidate.is_file():
                break
        else:
            return None
        self._count += 1
        for number, line in enumerate(_read_text(candidate).splitlines(), start=1):
            if line.strip():
                self._read.append(
                    self._annotation(line, f"{candidate}, line {number},", width, height)
                )
        return {"id": self._count, "file_name": file, "width": width, "height": height}

    def _annotation(self, line: str, where: str, width: int, height: int) -> dict[str, Any]:
        try:
            label, x, y, across, down = (float(part) for part in line.split()[:5])
        except ValueError:
            raise BadInput(f"{where} is not a class and a box of four numbers.") from None
        if label not in self._classes:
            raise BadInput(f"{where} has class {label:g}, which has no name.")
        if not all(0 <= value <= 1 for value in (x, y, across, down)):
            raise BadInput(f"{where} has a box that is not in shares of the picture, 0 to 1.")
        across, down = across * width, down * height
        return {
            "id": len(self._read) + 1,
            "image_id": self._count,
            "category_id": int(label),
            "bbox": [x * width - across / 2, y * height - down / 2, across, down],
            "area": across * down,
            "iscrowd": 0,
        }

    def annotations(self, images: Sequence[int]) -> list[dict[str, Any]]:
        wanted = set(images)
        return [annotation for annotation in self._read if annotation["image_id"] in wanted]


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file in UTF-8.") from None


def _read_names(folder: Path) -> dict[int, str]:
    for file in (place / name for place in (folder, folder.parent) for name in NAME_FILES):
        if not file.is_file():
            continue
        text = _read_text(file)
        names = dict(enumerate(text.split("\n"))) if file.suffix == ".txt" else _yaml_names(text)
        stripped = {number: name.strip() for number, name in names.items() if name.strip()}
        if stripped:
            return stripped
        raise BadInput(f"{file} does not name the classes of YOLO labels.")
    raise BadInput(
        f"{folder} has no data.yaml or classes.txt, so the classes of its labels have no names. "
        "Put one there, or name a COCO file."
    )


def _yaml_names(text: str) -> dict[int, str]:
    """`names` of a data.yaml, a list or an object by number; empty where it has none."""
    import yaml

    try:
        content = yaml.safe_load(text)
        names = content["names"]
        items = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in items}
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return {}
