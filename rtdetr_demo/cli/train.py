"""`python -m rtdetr_demo train`."""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import multiprocessing

from ..errors import BadInput
from ..training.trainer import Run, run_worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help="folder, tar or zip: instances.json and images"
    )
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder of the run (run)")
    parser.add_argument("--val", type=Path, help="folder with instances.json and images/")
    parser.add_argument(
        "--start", type=Path, help="train on from this folder of an earlier run, all layers at once"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--epochs", type=float, default=40, help="passes over the images (40)")
    budget.add_argument("--minutes", type=float, help="minutes of training instead")
    parser.add_argument("--dense-part", type=float, default=0.35, help="share of the first part")
    parser.add_argument("--dense-weight", type=float, default=0.5, help="its loss in the second")
    parser.add_argument(
        "--duplicate-weight", type=float, default=1.0, help="loss against doubles in the second"
    )
    parser.add_argument("--batch", type=int, default=16, help="images a step, of all workers")
    parser.add_argument("--workers", type=int, default=1, help="processes, one CPU core each")
    parser.add_argument(
        "--rates", type=float, nargs=2, default=[6e-4, 4e-4], help="learning rates of the parts"
    )
    parser.add_argument("--warmup", type=int, default=200, help="steps, in each part (200)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 224, 256])
    parser.add_argument("--full-sizes", type=int, nargs="+", default=[224, 256, 288])
    parser.add_argument("--size", type=int, default=256, help="side at which it detects (256)")
    parser.add_argument("--mosaic", type=float, default=0.25, help="share of four-image mosaics")
    parser.add_argument("--mixup", type=float, default=0.0, help="share of blended images")
    parser.add_argument(
        "--distort", type=float, default=0.0, help="share of images with parts erased, or spoiled"
    )
    parser.add_argument("--average", type=float, default=0.998, help="decay of the average")
    parser.add_argument("--save-every", type=float, default=5, help="minutes (5)")
    parser.add_argument("--log-every", type=int, default=25, help="steps (25)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda; what is there by default")


def run(args: argparse.Namespace) -> int:
    """Train. Raises BadInput for options that do not go together."""
    for name in ("batch", "workers", "warmup", "log_every"):
        if getattr(args, name) < 1:
            raise BadInput(f"--{name.replace('_', '-')} must be at least 1.")
    if args.batch % args.workers:
        raise BadInput("--batch must be a multiple of --workers.")
    if args.workers > 1 and args.device != "cpu" and torch.cuda.is_available():
        raise BadInput("--workers are for CPU cores: add --device cpu, or leave them out.")
    if (args.epochs if args.minutes is None else args.minutes) <= 0:
        raise BadInput("--epochs and --minutes must be more than 0.")
    if args.workers == 1:
        Run(args).train()
    else:
        with tempfile.TemporaryDirectory() as folder:
            meeting = f"file://{folder}/meeting"
            multiprocessing.spawn(run_worker, (args, meeting), args.workers)
    return 0
