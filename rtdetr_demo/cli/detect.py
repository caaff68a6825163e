"""`python -m rtdetr_demo detect`: one picture in, detections out; or many, and a table of rows."""

import argparse
import json
import sys
from pathlib import Path

from ..batch.inputs import find_pictures, names_one, read
from ..batch.runner import prepare, run_to_file, run_to_stream
from ..batch.writers import writer_of
from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load
from ..errors import BadInput, CheckpointError
from ..media import exporters as export
from ..media.images import read_picture
from ..model.detector import Detector
from ..predictions import Selection, check_threshold
from ..settings import DEFAULT_CHECKPOINT, RUNTIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pictures",
        metavar="PHOTO_OR_URL_OR_FOLDER",
        nargs="+",
        help="files, folders with all below them, globs, http(s) addresses, @LIST.txt with one of "
        "these a line, or what fsspec and pyarrow can open (s3://, gs://, ...)",
    )
    parser.add_argument(
        "--checkpoint",
        help=f"hub id, local folder or 'bundled'; fetched from the hub if not here (default: "
        f"{DEFAULT_CHECKPOINT}, or 'bundled' where the hub does not answer)",
    )
    parser.add_argument("--layers", type=int, help="decoder layers to run (default: all)")
    parser.add_argument("--threshold", type=float, default=0.5, help="score to exceed (0.5)")
    one = parser.add_argument_group("one picture")
    one.add_argument("--json", action="store_true", help="print the detections as JSON")
    one.add_argument("--save", type=Path, metavar="OUT.png", help="write an annotated picture")
    many = parser.add_argument_group("many pictures")
    many.add_argument(
        "--out",
        help="where the rows go: .jsonl (JSON lines), .json (COCO), .csv, .parquet, or a folder "
        "for YOLO text (default: JSON lines on standard output)",
    )
    many.add_argument("--annotated", metavar="DIR", help="write annotated pictures, as JPEG")
    many.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    many.add_argument("--runtime", choices=RUNTIMES, default="auto", help="as of app.py (auto)")


def run(options: argparse.Namespace) -> int:
    check_threshold(options.threshold)
    if names_one(options.pictures) and not (options.out or options.annotated):
        return _detect_one(options)
    return _detect_many(options)


def _detect_one(options: argparse.Namespace) -> int:
    content = read(options.pictures[0])
    image = read_picture(content)
    detector = _load(options.checkpoint)
    predictions = detector.detect(image, options.layers)
    selection = Selection(predictions.layers, options.threshold)
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


def _detect_many(options: argparse.Namespace) -> int:
    if options.save:
        raise BadInput("--save writes one picture. For many, name a folder with --annotated DIR.")
    if options.resume and not options.out:
        raise BadInput("--resume goes on with a file: name it with --out, as before.")
    if options.out:
        writer_of(options.out)  # before the work, not after it
    pictures = find_pictures(options.pictures)
    detector = _load(options.checkpoint)
    settings = prepare(
        detector, options.runtime, options.layers, options.threshold, options.annotated
    )
    if options.out:
        failed = run_to_file(pictures, detector, settings, options.out, options.resume)
    else:
        failed = run_to_stream(pictures, detector, settings, sys.stdout)
    if failed:
        print(
            f"{failed:,} of {len(pictures):,} pictures could not be read; their rows say why.",
            file=sys.stderr,
        )
    return 1 if failed == len(pictures) else 0


def _load(checkpoint: str | None) -> Detector:
    if checkpoint:
        return load(checkpoint)
    try:
        return load(DEFAULT_CHECKPOINT)
    except CheckpointError as reason:
        print(
            f"{reason} The bundled checkpoint serves instead of {DEFAULT_CHECKPOINT}.",
            file=sys.stderr,
        )
        return load(BUNDLED)
