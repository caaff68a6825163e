"""`python -m rtdetr_demo detect`: one picture in, detections out; or many, and a table of rows."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import torch

from ..batch.inputs import Picture, describe_skipped, find_pictures, names_one, read
from ..batch.parts import Parts
from ..batch.pipeline import describe_run
from ..batch.runner import prepare, run_to_file, run_to_stream
from ..batch.storage import is_remote
from ..batch.writers import check_writable, writer_of
from ..checkpoints.loading import load, load_or_bundled
from ..detector.detector import Detector
from ..errors import BadInput
from ..media import exporters as export
from ..media.images import read_picture
from ..predictions import Selection, check_threshold
from ..settings import DEFAULT_CHECKPOINT, RUNTIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pictures",
        metavar="PHOTO_OR_URL_OR_FOLDER",
        nargs="+",
        help="files, folders with all below them, globs, http(s) addresses, @LIST.txt with one of "
        "these a line, - for such a list (or a picture) on standard input, or what fsspec and "
        "pyarrow can open (s3://, gs://, ...)",
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
    cluster = parser.add_argument_group(
        "many pictures on Ray (pip install -r requirements-ray.txt)"
    )
    cluster.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="run on the Ray cluster at this address, or without one on a cluster of this machine; "
        "--out FOLDER.parquet becomes a folder of parts, here or on s3://, gs://, ...",
    )
    cluster.add_argument(
        "--workers", type=int, help="detectors at once (default: one a card, else one a node)"
    )
    cluster.add_argument(
        "--part-size", type=int, default=500, help="pictures of one part, done as one task (500)"
    )


def run(options: argparse.Namespace) -> int:
    check_threshold(options.threshold)
    if names_one(options.pictures) and not (options.out or options.annotated):
        for name in ("ray", "resume", "workers"):
            if getattr(options, name) not in (None, False):
                raise BadInput(f"--{name} needs --out: it is for the rows of many pictures.")
        return _detect_one(options)
    return _detect_many(options)


def _detect_one(options: argparse.Namespace) -> int:
    content = read(options.pictures[0])
    image = read_picture(content)
    if note := image.info.get("note"):
        print(note, file=sys.stderr)
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
    if options.ray is not None:
        return _detect_on_ray(options)
    if options.out:
        writer_of(options.out)  # before the work, not after it
        check_writable(options.out, "--out")
    if options.annotated:
        check_writable(f"{options.annotated}/", "--annotated")
    pictures = _find(options.pictures)
    detector = _load(options.checkpoint)
    settings = prepare(
        detector, options.runtime, options.layers, options.threshold, options.annotated
    )
    if options.out:
        failed = run_to_file(pictures, detector, settings, options.out, options.resume)
    else:
        failed = run_to_stream(pictures, detector, settings, sys.stdout)
    return _report(failed, len(pictures))


def _detect_on_ray(options: argparse.Namespace) -> int:
    try:
        from ..batch.cluster import connect, run_on_ray
    except ImportError:
        raise BadInput("--ray needs packages: pip install -r requirements-ray.txt") from None
    if not options.out:
        raise BadInput("--ray writes files: say where with --out, such as --out rows.parquet.")
    if options.part_size < 1 or (options.workers or 1) < 1:
        raise BadInput("--workers and --part-size are whole numbers from 1.")
    is_parquet = options.out.rstrip("/").endswith(".parquet")
    if not is_parquet and is_remote(options.out):
        raise BadInput("What lies elsewhere is written as Parquet: end --out with .parquet.")
    write = None if is_parquet else writer_of(options.out)
    parts = Parts(options.out if is_parquet else options.out.rstrip("/") + ".parts")
    pictures = _find(options.pictures)
    # On the CPU, where loading is quick: the workers detect.
    detector = _load(options.checkpoint, torch.device("cpu"))
    settings = describe_run(detector, options.layers, options.threshold, options.annotated)
    connect(options.ray)
    failed = run_on_ray(
        pictures,
        settings,
        options.checkpoint or detector.checkpoint,
        options.runtime,
        parts,
        options.resume,
        options.workers,
        options.part_size,
    )
    if write:
        write(Path(options.out.rstrip("/")), lambda: parts.rows(pictures), settings)
        parts.remove()
    return _report(failed, len(pictures))


def _find(arguments: list[str]) -> list[Picture]:
    """The pictures; what is left out is reported on stderr."""
    skipped = Counter[str]()
    pictures = find_pictures(arguments, skipped)
    if words := describe_skipped(skipped):
        print(words, file=sys.stderr)
    return pictures


def _report(failed: int, count: int) -> int:
    if failed:
        print(
            f"{failed:,} of {count:,} pictures could not be read; their rows say why.",
            file=sys.stderr,
        )
    return 1 if failed == count else 0


def _load(checkpoint: str | None, device: torch.device | None = None) -> Detector:
    if checkpoint:
        return load(checkpoint, device=device)
    return load_or_bundled(DEFAULT_CHECKPOINT, device=device)
