"""`python -m rtdetr_demo inspect`: why the model found it, as pictures and a report."""

import argparse
import json
from pathlib import Path
from typing import Any

from ..batch.inputs import read
from ..checkpoints.catalog import BUNDLED, BUNDLED_FOLDER
from ..checkpoints.loading import load
from ..detector.inspection import inspect
from ..errors import BadInput
from ..evaluation.faithfulness import (
    Faithfulness,
    measure_faithfulness,
    shipped,
    weights_digest,
)
from ..evaluation.instances import read_instances
from ..media.images import read_picture
from ..media.inspection_pictures import write_inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", nargs="?", metavar="PHOTO", help="a file, or an http(s) address")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--object", type=int, default=1, metavar="N", help="by score after the last layer (1: best)"
    )
    parser.add_argument(
        "--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled' (default)"
    )
    parser.add_argument(
        "--json", action="store_true", help="write inspection.json, too; or print figures as JSON"
    )
    parser.add_argument(
        "--faithfulness",
        nargs=2,
        type=Path,
        metavar=("INSTANCES", "IMAGES"),
        help="instead: blot out what detections looked at in a COCO file's pictures",
    )
    parser.add_argument("--images", type=int, help="with --faithfulness: only the first so many")


def run(options: argparse.Namespace) -> int:
    if options.faithfulness:
        instances, images = options.faithfulness
        report = _measure(instances, images, options.checkpoint, options.images)
        print(json.dumps(_figures(report, options.checkpoint)) if options.json else report)
        return 0
    if not options.picture or not options.out:
        raise BadInput("Give a picture and --out DIR, or --faithfulness INSTANCES IMAGES.")
    image = read_picture(read(options.picture))
    found = inspect(load(options.checkpoint), image)
    query = found.ranked(options.object)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        tested = shipped(BUNDLED_FOLDER) if options.checkpoint == BUNDLED else None
        note = tested.sentence() if tested else ""
        written = write_inspection(found, query, image, options.out, {"Attention": note})
        if options.json:
            written.append(options.out / "inspection.json")
            written[-1].write_text(json.dumps(found.to_json(query)) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{options.out} could not be written: {error.strerror}.") from None
    label, score = found.class_names[found.labels[-1, query]], found.scores[-1, query]
    print(f"{label} {score:.3f}, query {query + 1} of {len(found.chosen)}")
    for path in written:
        print(path)
    return 0


def _figures(report: Faithfulness, checkpoint: str) -> dict[str, Any]:
    """As they lie beside a checkpoint; of a hub's, without what its weights are known by."""
    folder = BUNDLED_FOLDER if checkpoint == BUNDLED else Path(checkpoint)
    weights = {"weights": weights_digest(folder)} if folder.is_dir() else {}
    return {**weights, **report.to_json()}


def _measure(
    instances: Path, images: Path, checkpoint: str, max_images: int | None
) -> Faithfulness:
    entries = read_instances(instances)["images"]
    paths = [images / entry["file_name"] for entry in entries[:max_images]]
    if missing := next((path for path in paths if not path.is_file()), None):
        raise BadInput(f"{missing} is not there. Is {images} the folder of these pictures?")
    return measure_faithfulness(load(checkpoint), paths)
