"""`python -m rtdetr_demo evaluate`."""

import argparse
import json
from pathlib import Path

from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load, prepare
from ..errors import BadInput
from ..evaluation.coco import evaluate, plot
from ..evaluation.instances import read_instances
from ..settings import RUNTIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instances", type=Path, metavar="INSTANCES.json", help="COCO annotations")
    parser.add_argument("images", type=Path, metavar="IMAGES_DIR", help="folder of its pictures")
    parser.add_argument(
        "--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled' (default)"
    )
    parser.add_argument(
        "--layers", default="all", metavar="all|K", help="every depth (default), or only K layers"
    )
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help="as of app.py (torch)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, AP 0 to 1")
    parser.add_argument("--plot", type=Path, metavar="FIG.png", help="draw AP against latency")


def run(options: argparse.Namespace) -> int:
    if options.layers != "all" and not options.layers.isdecimal():
        raise BadInput("--layers is 'all' or a whole number.")
    layers = None if options.layers == "all" else int(options.layers)
    instances = read_instances(options.instances)
    detector = load(options.checkpoint)
    if options.runtime != "torch" and not prepare(detector, options.runtime):
        raise BadInput(
            "OpenVINO does not run this checkpoint here: is it installed? --runtime torch does."
        )
    report = evaluate(detector, instances, options.images, layers)
    print(json.dumps(report.to_json(), indent=2) if options.json else report)
    if options.plot:
        plot(report, options.plot)
    return 0
