"""`python -m rtdetr_demo benchmark`: how long a picture takes, at each depth, beside transformers.

Every contender takes the same picture, from decoded pixels to detections. They take turns within
one run, so that whatever else the machine does falls on all of them alike.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil, pipeline

from . import hub
from .checkpoints import BUNDLED
from .detect import load
from .detector import Detector
from .errors import BadInput

PIPELINE = "transformers pipeline"


@dataclass(frozen=True)
class Line:
    """Milliseconds of one contender over the rounds: median, 5th and 95th percentile."""

    contender: str
    median: float
    p5: float
    p95: float

    @classmethod
    def of(cls, contender: str, milliseconds: Sequence[float]) -> "Line":
        p5, p95 = np.percentile(milliseconds, [5, 95])
        return cls(contender, statistics.median(milliseconds), float(p5), float(p95))


def alternate(contenders: dict[str, Callable[[], Any]], rounds: int) -> list[Line]:
    """Time each contender `rounds` times, in turn, after one turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in tqdm(range(rounds + 1), unit="round", desc="benchmark"):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if turn > 0:
                times[name].append(1000 * (time.perf_counter() - began))
    return [Line.of(name, taken) for name, taken in times.items()]


def machine(detector: Detector) -> dict[str, str]:
    """What a number means little without."""
    cuda = detector.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores",
        "processor": platform.processor() or platform.machine(),
        "precision": detector.precision,
        **{name: version(name) for name in ("torch", "transformers")},
    }


def the_pipeline(checkpoint: str, device: torch.device) -> Callable[[Image.Image], Any]:
    """transformers' own pipeline on the same files, in fp32, as users get it."""
    folder = hub.local_folder(checkpoint)
    assert folder is not None, "our own detector has just been loaded from it"
    return pipeline(
        "object-detection",
        model=AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32),
        image_processor=RTDetrImageProcessorPil.from_pretrained(folder),
        device=device,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled'")
    parser.add_argument("--picture", type=Path, help="a photograph (default: 640x480 noise)")
    parser.add_argument(
        "--against", choices=["pipeline"], help="time transformers' pipeline beside us"
    )
    parser.add_argument("--layers", default="all", metavar="all|K", help="depths to time (all)")
    parser.add_argument("--rounds", type=int, default=20, help="timed passes of each (20)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers")


def run(options: argparse.Namespace) -> int:
    if options.layers != "all" and not options.layers.isdecimal():
        raise BadInput("--layers is 'all' or a whole number.")
    if options.rounds < 1:
        raise BadInput("--rounds is at least 1.")
    detector = load(options.checkpoint)
    deepest = detector.depth
    depths = (
        range(1, deepest + 1)
        if options.layers == "all"
        else [detector.check_depth(int(options.layers))]
    )
    image = _picture(options.picture)

    def ours(depth: int) -> Callable[[], Any]:
        return lambda: detector.detect(image, depth, every_layer=False)

    contenders: dict[str, Callable[[], Any]] = {
        f"{depth} of {deepest} layers": ours(depth) for depth in depths
    }
    if options.against:
        theirs = the_pipeline(options.checkpoint, detector.device)
        contenders[PIPELINE] = lambda: theirs(image)
    lines = alternate(contenders, options.rounds)
    conditions = {"checkpoint": detector.checkpoint, "rounds": options.rounds, **machine(detector)}
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    print(f"{'':24}{'median ms':>10}{'p5':>8}{'p95':>8}{'against full depth':>20}")
    full = lines[len(depths) - 1].median
    for line in lines:
        share = f"{line.median / full:.2f}x"
        print(f"{line.contender:24}{line.median:10.1f}{line.p5:8.1f}{line.p95:8.1f}{share:>20}")
    if options.json:
        content = {"conditions": conditions, "lines": [asdict(line) for line in lines]}
        try:
            options.json.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise BadInput(f"{options.json} could not be written: {error.strerror}.") from None
    return 0


def _picture(path: Path | None) -> Image.Image:
    if path is None:
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        return Image.fromarray(noise)
    from .sources import read_picture

    try:
        return read_picture(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}.") from None
