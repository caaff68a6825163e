"""`python -m rtdetr_demo benchmark`."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..batch.inputs import read
from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load
from ..errors import BadInput
from ..evaluation.benchmark import Plan, Report, measure
from ..evaluation.whole_models import NAMES
from ..media.images import read_picture
from ..settings import RUNTIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled' (default)"
    )
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best that is there)")
    parser.add_argument("--picture", type=Path, help="a photograph (default: 640x480 noise)")
    parser.add_argument(
        "--against",
        choices=["pipeline", *NAMES],
        nargs="+",
        default=[],
        help="also time transformers' pipeline, or its whole model as converted by OpenVINO or "
        "ONNX Runtime, at every depth",
    )
    parser.add_argument("--layers", default="all", metavar="all|K", help="depths to time (all)")
    parser.add_argument("--queries", type=int, nargs="+", default=[], help="numbers of queries")
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="input sizes in pixels")
    parser.add_argument("--batch", type=int, default=0, help="also time batches of this many")
    parser.add_argument("--rounds", type=int, default=20, help="timed passes of each (20)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto", help="as of app.py (auto)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers")


def run(options: argparse.Namespace) -> int:
    if options.layers != "all" and not options.layers.isdecimal():
        raise BadInput("--layers is 'all' or a whole number.")
    if options.rounds < 1:
        raise BadInput("--rounds is at least 1.")
    if options.batch < 0:
        raise BadInput("--batch is at least 1.")
    image = _picture(options.picture)
    detector = load(options.checkpoint, device=_device(options.device))
    every = options.layers == "all"
    plan = Plan(
        layers=tuple(range(1, detector.depth + 1)) if every else (int(options.layers),),
        queries=tuple(options.queries),
        sizes=tuple(options.sizes),
        rounds=options.rounds,
        runtime=options.runtime,
        pipeline="pipeline" in options.against,
        converters=tuple(name for name in NAMES if name in options.against),
        batch=options.batch,
    )
    report = measure(detector, image, plan, _tell)
    report.conditions["picture"] = options.picture.name if options.picture else "640x480 noise"
    print(file=sys.stderr)
    _print(report)
    if options.json:
        try:
            options.json.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{options.json} could not be written: {error.strerror}.") from None
    return 0


def _tell(what: str, share: float) -> None:
    print(f"\r{share:4.0%} {what:40.40}", end="", file=sys.stderr, flush=True)


def _print(report: Report) -> None:
    print(", ".join(f"{name} {value}" for name, value in report.conditions.items()))
    deepest = [line for line in report.lines if line.kind == "layers"][-1]
    columns = [("ms", 10), ("spread", 9), ("median", 9), ("p5", 9), ("p95", 9)]
    head = "".join(f"{name:>{width}}" for name, width in columns)
    head += f"{'of ' + deepest.contender:>20}{'agreement':>11}"
    print(f"{'':24}{head}  runtime")
    for line in report.lines:
        share = f"{line.ms / deepest.ms:.2f}x"
        agrees = "" if line.agreement is None else f"{line.agreement:.2f}"
        print(
            f"{line.contender:24}{line.ms:10.1f}{line.spread:9.1f}{line.median:9.1f}"
            f"{line.p5:9.1f}{line.p95:9.1f}{share:>20}{agrees:>11}  {line.runtime}"
        )
    print("stages: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in report.stages.items()))
    for network in report.converted:
        print(
            f"{network.depth} layers, network alone: {network.network_ms:.1f} ms, "
            f"{network.share:.2f} of the {network.whole_model_ms:.1f} ms of "
            f"{NAMES[network.converter]}'s whole model"
        )
    if report.throughput:
        print(", ".join(f"{name} {value:.4g}" for name, value in report.throughput.items()))


def _device(name: str | None) -> torch.device | None:
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise BadInput(f"There is no device {name[:20]} here. Choose cpu, cuda or mps.") from None
    return device


def _picture(path: Path | None) -> Image.Image:
    if path is None:
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        return Image.fromarray(noise)
    return read_picture(read(str(path)))
