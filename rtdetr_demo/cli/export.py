"""`python -m rtdetr_demo export`: a checkpoint, cut at a depth, for use without this demo."""

import argparse
import sys
from pathlib import Path

import torch

from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load
from ..export.card import NOT_STATED, read_measured
from ..export.exporter import export
from ..export.settings import FORMATS, check_cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="a new or empty folder")
    parser.add_argument(
        "--layers", type=int, required=True, metavar="K", help="decoder layers to keep"
    )
    parser.add_argument("--format", choices=FORMATS, required=True, help="what to write")
    parser.add_argument(
        "--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled' (default)"
    )
    parser.add_argument("--queries", type=int, metavar="N", help="queries to refine (all)")
    parser.add_argument(
        "--size", type=int, metavar="S", help="side of a square input in pixels (its own)"
    )
    parser.add_argument(
        "--measured",
        type=Path,
        metavar="DEPTH.json",
        help="what `depth --json` wrote: its figures go into the README",
    )


def run(options: argparse.Namespace) -> int:
    detector = load(options.checkpoint, device=torch.device("cpu"))
    cut = check_cut(detector, options.layers, options.queries, options.size)
    measured = ""
    if options.measured:
        measured = read_measured(options.measured, detector.checkpoint, cut.layers)
    written = export(detector, options.out, options.format, cut, measured, _show_progress)
    print(file=sys.stderr)
    for name, count in written.files.items():
        print(f"{written.folder / name}: {count / 1000:,.1f} kB")
    if gap := written.difference:
        print(
            f"It differs from the demo's own pass by at most {gap.score:.1g} in score and "
            f"{gap.box:.1g} of the picture in a box ({gap.detections} of {gap.compared} detections "
            "on one photograph)."
        )
    else:
        print("It was not compared with the demo's own pass: pip install onnxruntime for that.")
    print(f"License of the weights: {written.license}.")
    if written.license == NOT_STATED:
        print("Ask the checkpoint's source for its license before you pass this on.")
    return 0


def _show_progress(share: float, what: str) -> None:
    print(f"\r{share:4.0%} {what:30}", end="", file=sys.stderr, flush=True)
