"""`python -m rtdetr_demo video`: detect, track and draw in a clip."""

import argparse
import threading
from pathlib import Path

from ..checkpoints.loading import load
from ..errors import BadInput
from ..settings import RUNTIMES
from ..video.options import Options, Progress
from ..video.runner import process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", type=Path, help="MP4, MOV, WebM, AVI or MKV")
    parser.add_argument("folder", metavar="OUT", type=Path, help="folder for what comes of it")
    parser.add_argument("--checkpoint", default="bundled", help="hub id, local folder or 'bundled'")
    parser.add_argument("--layers", type=int, help="decoder layers to run (default: all)")
    parser.add_argument("--threshold", type=float, default=0.5, help="score to exceed (0.5)")
    parser.add_argument("--classes", nargs="+", help="labels to keep (default: all)")
    parser.add_argument("--stride", type=int, default=1, help="detect in every n-th frame")
    parser.add_argument("--longest", type=int, help="longest side of the output, in pixels")
    parser.add_argument("--line", type=float, help="count crossings at this share of the height")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto", help="as of app.py (auto)")


def run(options: argparse.Namespace) -> int:
    settings = Options(
        decoder_layers=options.layers,
        threshold=options.threshold,
        classes=tuple(options.classes) if options.classes else None,
        stride=options.stride,
        longest=options.longest,
        line=options.line,
    ).check()
    detector = load(options.checkpoint)
    detector.check_depth(settings.decoder_layers)
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{options.folder} could not be made: {error.strerror}.") from None

    def tell(progress: Progress) -> None:
        left = "" if progress.left is None else f", {progress.left:.0f} s left"
        total = progress.total or "?"
        print(f"\r{progress.done} of {total}, {progress.fps:.1f} FPS{left}  ", end="", flush=True)

    # It takes seconds to be ready, and the first frames need not wait for that.
    stop = threading.Event()
    wanted = {"half": options.runtime == "bf16", "stop": stop}
    helper = threading.Thread(target=detector.accelerate, kwargs=wanted, daemon=True)
    if options.runtime != "torch":
        helper.start()
    try:
        summary = process(options.source, options.folder, detector, settings, tell)
    finally:
        stop.set()
        if helper.ident:
            helper.join()
    print(f"\n{summary.frames} frames written to {options.folder / 'annotated.mp4'}")
    if settings.line is not None:
        print(f"crossed downwards: {summary.crossed_down}, upwards: {summary.crossed_up}")
    return 0
