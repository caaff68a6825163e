"""`python -m rtdetr_demo detect`: one picture in, detections out."""

import argparse
import json
import sys
from pathlib import Path

from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load
from ..errors import BadInput, CheckpointError
from ..media import exporters as export
from ..media.fetch import fetch
from ..media.images import read_picture
from ..model.detector import Detector
from ..predictions import Selection, check_threshold
from ..settings import DEFAULT_CHECKPOINT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", metavar="PHOTO_OR_URL", help="a file, or an http(s) address")
    parser.add_argument(
        "--checkpoint",
        help=f"hub id, local folder or 'bundled'; fetched from the hub if not here (default: "
        f"{DEFAULT_CHECKPOINT}, or 'bundled' where the hub does not answer)",
    )
    parser.add_argument("--layers", type=int, help="decoder layers to run (default: all)")
    parser.add_argument("--threshold", type=float, default=0.5, help="score to exceed (0.5)")
    parser.add_argument("--json", action="store_true", help="print the detections as JSON")
    parser.add_argument("--save", type=Path, metavar="OUT.png", help="write an annotated picture")


def run(options: argparse.Namespace) -> int:
    threshold = check_threshold(options.threshold)
    content = _read(options.picture)
    image = read_picture(content)
    detector = load(options.checkpoint) if options.checkpoint else _load_default()
    predictions = detector.detect(image, options.layers)
    selection = Selection(predictions.layers, threshold)
    if options.save:
        try:
            options.save.write_bytes(export.render("png", predictions, selection, lambda: image))
        except OSError as error:
            raise BadInput(f"{options.save} could not be written: {error.strerror}.") from None
    answer = predictions.to_json(*selection)
    if options.json:
        print(json.dumps(answer, indent=2))
    else:
        for found in answer["detections"]:
            box = " ".join(f"{value:5d}" for value in found["box"].values())
            print(f"{found['score']:.3f}  {box}  {found['label']}")
    return 0


def _read(picture: str) -> bytes:
    if picture.startswith(("http://", "https://")):
        return fetch(picture)
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise BadInput(f"{picture} could not be read: {error.strerror}.") from None


def _load_default() -> Detector:
    try:
        return load(DEFAULT_CHECKPOINT)
    except CheckpointError as reason:
        print(
            f"{reason} The bundled checkpoint serves instead of {DEFAULT_CHECKPOINT}.",
            file=sys.stderr,
        )
        return load(BUNDLED)
