"""`python -m rtdetr_demo static`: the page as a folder for any static host."""

import argparse
from pathlib import Path

import torch

from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load
from ..ui.static_site import build


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="a new or empty folder")
    parser.add_argument(
        "--checkpoint",
        default=BUNDLED,
        help="hub id, local folder or 'bundled' (default %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    detector = load(options.checkpoint, device=torch.device("cpu"))
    for step in build(detector, options.out):
        print(f"{options.out}: {step}", flush=True)
    files = [path for path in options.out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} files, {size:.1f} MB. To see it:")
    print(f"python -m http.server --directory {options.out}")
    return 0
