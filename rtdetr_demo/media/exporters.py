"""What leaves as a file: a selection of predictions as text or as a picture."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from ..predictions import Detection, Predictions, Selection
from .coco_categories import category_ids
from .colors import class_color, text_color

FORMS = {
    "png": "detections.png",
    "json": "detections.json",
    "csv": "detections.csv",
    "coco": "detections.coco.json",
    "yolo": "detections.yolo.txt",
}
"""File name of each form, for a picture without a name."""

_SUFFIXES = {"png": "-annotated.png", "json": ".json", "csv": ".csv", "coco": ".coco.json"}


def file_name(form: str, picture: str | None) -> str:
    """What a file of a form in `FORMS` is called, after the picture's own name.

    YOLO's is the picture's with the ending .txt, which its readers require.
    """
    stem = PurePosixPath((picture or "").replace("\\", "/")).stem
    return f"{stem}{_SUFFIXES.get(form, '.txt')}" if stem else FORMS[form]


def render(
    form: str,
    predictions: Predictions,
    selection: Selection,
    picture: Callable[[], Image.Image],
    name: str = "picture",
) -> bytes:
    """The content of a file of a form in `FORMS`.

    Args:
        form: Key of `FORMS`.
        predictions: Of one picture.
        selection: Which of them to export.
        picture: Gives the original; called only for "png".
        name: The picture's file name, which COCO holds.
    """
    if form == "json":
        return _json(predictions.to_json(*selection))
    found = predictions.select(*selection)
    if form == "png":
        buffer = io.BytesIO()
        annotate(picture(), found).save(buffer, "PNG", compress_level=3)
        return buffer.getvalue()
    if form == "coco":
        return _coco(predictions, found, name)
    return {"csv": _csv, "yolo": _yolo}[form](predictions, found)


def annotate(image: Image.Image, found: Sequence[Detection]) -> Image.Image:
    """Draw boxes and labels on a copy of an RGB picture, sized to suit its resolution."""
    if not found:
        return image.copy()
    # It brings SciPy, Matplotlib and OpenCV along: seconds that a start need not spend.
    import supervision as sv

    # supervision picks colours by class number: number the classes that are present.
    present = sorted({detection.label for detection in found})
    colors = [class_color(label) for label in present]
    shown = sv.Detections(
        xyxy=np.array([detection[3:] for detection in found], dtype=np.float32),
        class_id=np.array([present.index(detection.label) for detection in found]),
    )
    labels = [f"{detection.label} {detection.score:.2f}" for detection in found]
    size = max(image.size)
    scene = sv.BoxAnnotator(
        color=sv.ColorPalette.from_hex(colors), thickness=max(2, round(size / 400))
    ).annotate(image.copy(), shown)
    return sv.RichLabelAnnotator(
        color=sv.ColorPalette.from_hex(colors),
        text_color=sv.ColorPalette.from_hex([text_color(color) for color in colors]),
        font_size=max(11, round(size / 60)),
        text_padding=max(3, round(size / 300)),
        smart_position=True,
    ).annotate(scene, shown, labels=labels)


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def csv_text(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula: an apostrophe goes before one.

    A carriage return, which not every reader takes as part of a cell, becomes a space.
    """
    text = text.replace("\r", " ")
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


_FORMULA = tuple("=+-@\t＝＋－＠")


CSV_COLUMNS = ("label", "score", "x", "y", "width", "height", "area_share")


def csv_values(one: Detection, size: tuple[int, int]) -> list[str]:
    """What stands under `CSV_COLUMNS` for a detection in a picture of this width and height."""
    box = one.clipped(*size)
    share = box[2] * box[3] / (size[0] * size[1])
    return [csv_text(one.label), f"{one.score:.4f}", *(f"{v:.1f}" for v in box), f"{share:.4f}"]


def _csv(predictions: Predictions, found: Sequence[Detection]) -> bytes:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    size = (predictions.width, predictions.height)
    writer.writerows(csv_values(detection, size) for detection in found)
    return table.getvalue().encode()


def coco_annotation(
    one: Detection, size: tuple[int, int], number: int, image: int, category: int
) -> dict:
    """COCO's annotation `number`, in image `image`, whose width and height are `size`."""
    box = one.clipped(*size)
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [round(v, 2) for v in box],
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "score": round(one.score, 4),
    }


def _coco(predictions: Predictions, found: Sequence[Detection], name: str) -> bytes:
    """A whole COCO file of one image."""
    size = (predictions.width, predictions.height)
    ids = category_ids(predictions.class_names)
    return _json(
        {
            "images": [{"id": 1, "file_name": name, "width": size[0], "height": size[1]}],
            "categories": [
                {"id": number, "name": label}
                for number, label in zip(ids, predictions.class_names, strict=True)
            ],
            "annotations": [
                coco_annotation(one, size, number, 1, ids[one.class_id])
                for number, one in enumerate(found, start=1)
            ],
        }
    )


def yolo_line(one: Detection, size: tuple[int, int]) -> str:
    """`class centre_x centre_y width height`, 0 to 1; classes numbered by the checkpoint."""
    x, y, width, height = one.clipped(*size)
    shares = (
        (x + width / 2) / size[0],
        (y + height / 2) / size[1],
        width / size[0],
        height / size[1],
    )
    return f"{one.class_id} " + " ".join(f"{v:.6f}" for v in shares) + "\n"


def _yolo(predictions: Predictions, found: Sequence[Detection]) -> bytes:
    size = (predictions.width, predictions.height)
    return "".join(yolo_line(detection, size) for detection in found).encode()
