"""`python -m rtdetr_demo depth`: how many decoder layers a set of photos needs."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from ..batch.inputs import Picture, describe_skipped, find_pictures, read
from ..batch.writers import check_writable
from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load, prepare
from ..detector.detector import Detector
from ..errors import BadInput, DemoError
from ..evaluation.depth import DepthReport, DepthStudy
from ..evaluation.depth_choice import check_keep, layers_in_words
from ..evaluation.depth_counts import IOUS
from ..evaluation.depth_html import to_html
from ..evaluation.labels import read_labels
from ..evaluation.latency import measure_latency
from ..media.images import read_picture
from ..predictions import Predictions, check_threshold
from ..settings import RUNTIMES

if TYPE_CHECKING:
    from ..evaluation.depth_scores import DepthScores

BATCH = 8
"""Pictures of one pass, as in `evaluate`."""

BATCH_PIXELS = 50_000_000
"""Decoded pixels that are held at once, unless one picture alone has more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pictures", nargs="+", metavar="FOLDER", help="folders, files and globs, as of detect"
    )
    parser.add_argument(
        "--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled' (default)"
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=98.0,
        metavar="PERCENT",
        help="share of full depth's detections that the recommended depth keeps (98)",
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="score to exceed (0.5)")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="also AP of every depth: a COCO file, or a folder of YOLO text with data.yaml or "
        "classes.txt",
    )
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help="as of app.py (torch)")
    parser.add_argument("--no-timing", action="store_true", help="do not measure the time saved")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report in one file")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")


def run(options: argparse.Namespace) -> int:
    keep = check_keep(options.keep)
    check_threshold(options.threshold)
    for name in ("html", "csv", "json"):
        if path := getattr(options, name):
            if path.is_dir():
                raise BadInput(f"{path} could not be written: it is a folder.")
            check_writable(str(path), f"--{name}")
    labels = read_labels(options.labels) if options.labels else None
    skipped = Counter[str]()
    pictures = find_pictures(options.pictures, skipped)
    if words := describe_skipped(skipped):
        print(words, file=sys.stderr)
    detector = load(options.checkpoint)
    if options.runtime != "torch" and not prepare(detector, options.runtime):
        raise BadInput(
            "OpenVINO does not run this checkpoint here: is it installed? --runtime torch does."
        )
    scores = None
    if labels:
        scores = _scores_class()(labels, detector.class_names, detector.depth)
    study = DepthStudy(detector.checkpoint, detector.depth, options.threshold)
    try:
        _detect(detector, pictures, study, scores)
        is_timed = not options.no_timing
    except KeyboardInterrupt:
        if not study.counts:
            raise
        print(f"Stopped after {len(study.counts):,} of {len(pictures):,} photos.", file=sys.stderr)
        is_timed = False
    paths = {picture.file: picture.name for picture in pictures}

    def open_picture(file: str) -> Image.Image:
        return read_picture(read(paths[file]))

    latency = None
    if is_timed and study.counts:
        latency = measure_latency(detector, open_picture(study.counts[0].name))
    report = study.report(
        keep, latency, scores.averages() if scores else (), scores.labelled if scores else 0
    )
    _print(report)
    if scores and scores.absent:
        print(f"Left out, because the checkpoint does not know them: {', '.join(scores.absent)}.")
    _write(report, options, open_picture)
    return 0


def _scores_class() -> "type[DepthScores]":
    try:
        from ..evaluation.depth_scores import DepthScores
    except ModuleNotFoundError as error:
        raise BadInput(
            f"--labels needs the package {error.name}: pip install -r requirements-train.txt"
        ) from None
    return DepthScores


def _detect(
    detector: Detector,
    pictures: Sequence[Picture],
    study: DepthStudy,
    scores: "DepthScores | None",
) -> None:
    with tqdm(total=len(pictures), unit="photo", desc="depth") as bar:
        for batch in _batches(pictures, study):
            for picture, answer in _answers(detector, batch, study):
                study.add(picture.file, answer)
                if scores:
                    scores.add(picture.file, answer)
            bar.update(len(study.counts) + len(study.unreadable) - bar.n)
        bar.update(len(pictures) - bar.n)


def _answers(
    detector: Detector, batch: Sequence[tuple[Picture, Image.Image]], study: DepthStudy
) -> Iterator[tuple[Picture, Predictions]]:
    """Detect in one pass; where a picture cannot be used, each by itself."""
    try:
        answers = detector.detect_batch([image for _, image in batch])
    except BadInput as error:
        if len(batch) == 1:
            study.add_unreadable(batch[0][0].file, str(error))
            return
        for pair in batch:
            yield from _answers(detector, [pair], study)
        return
    for (picture, _), answer in zip(batch, answers, strict=True):
        yield picture, answer


def _batches(
    pictures: Sequence[Picture], study: DepthStudy
) -> Iterator[list[tuple[Picture, Image.Image]]]:
    batch: list[tuple[Picture, Image.Image]] = []
    pixels = 0
    for picture in pictures:
        try:
            image = read_picture(read(picture.name))
        except DemoError as error:
            study.add_unreadable(picture.file, str(error))
            continue
        pixels += image.width * image.height
        if batch and (len(batch) == BATCH or pixels > BATCH_PIXELS):
            yield batch
            batch, pixels = [], image.width * image.height
        batch.append((picture, image))
    if batch:
        yield batch


def _print(report: DepthReport) -> None:
    print(f"{report.checkpoint}, {report.pictures:,} photos, threshold {report.threshold:g}")
    names = [f"kept at IoU {iou:g}" for iou in IOUS] + [f"added at IoU {iou:g}" for iou in IOUS]
    head = f"{'layers':>6}" + "".join(f"{name:>27}" for name in names)
    head += f"{'ms':>8}" if report.latency else ""
    head += f"{'AP':>7}{'AP50':>7}" if report.averages else ""
    print(head)
    by_iou = [report.overall(iou) for iou in IOUS]
    for k in range(report.depth):
        shares = [rows[k].kept_share for rows in by_iou] + [rows[k].added_share for rows in by_iou]
        line = f"{k + 1:6d}" + "".join(f"{share!s:>27}" for share in shares)
        line += f"{report.latency.total_ms[k]:8.1f}" if report.latency else ""
        if report.averages:
            for name in ("AP", "AP50"):
                value = report.averages[k][name]
                line += f"{'-' if value is None else f'{100 * value:.1f}':>7}"
        print(line)
    print("Shares of full depth's detections, with 90% intervals over photos.")
    if report.averages:
        print(f"AP in percent, on {report.labelled:,} labelled photos.")
    layers = min(report.recommendation.layers, max(report.depth - 1, 1))
    worst = [loss for loss in report.losses if loss.layers == layers][:5]
    if worst:
        print(f"The photos that lose most at {layers_in_words(layers)}:")
    for loss in worst:
        print(f"  {loss.picture}: {loss.words()} (of {loss.reference})")
    if report.unreadable:
        name, reason = report.unreadable[0]
        print(f"{len(report.unreadable):,} pictures could not be read, first {name}: {reason}")
    print(report.summary)


def _write(
    report: DepthReport,
    options: argparse.Namespace,
    open_picture: Callable[[str], Image.Image],
) -> None:
    contents: list[tuple[Path | None, Callable[[], str]]] = [
        (options.html, lambda: to_html(report, open_picture)),
        (options.csv, report.to_csv),
        (options.json, lambda: json.dumps(report.to_json(), indent=2) + "\n"),
    ]
    for path, content in contents:
        if path is None:
            continue
        try:
            path.write_text(content(), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{path} could not be written: {error.strerror}.") from None
