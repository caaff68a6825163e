"""`python -m rtdetr_demo video`: detect, track and draw in a clip."""

import argparse
import contextlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ..checkpoints.catalog import BUNDLED
from ..checkpoints.loading import load
from ..errors import BadInput
from ..settings import RUNTIMES
from ..video.options import FILES, Options, Progress
from ..video.runner import process

CLIPS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", type=Path, help="MP4, MOV, WebM, AVI or MKV")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="the annotated clip where it ends in .mp4, with OUT.jsonl and OUT.csv beside it; else "
        "a folder for the three",
    )
    parser.add_argument(
        "--checkpoint", default=BUNDLED, help="hub id, local folder or 'bundled' (default)"
    )
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
    results = _results(options.source, options.out)
    detector = load(options.checkpoint)
    detector.check_depth(settings.decoder_layers)

    def tell(progress: Progress) -> None:
        left = "" if progress.left is None else f", {progress.left:.0f} s left"
        total = progress.total or "?"
        print(f"\r{progress.done} of {total}, {progress.fps:.1f} FPS{left}  ", end="", flush=True)

    # It takes seconds to be ready, and the first frames need not wait for that.
    done = threading.Event()
    half = options.runtime == "bf16"
    wanted = {"depth": settings.decoder_layers, "half": half, "stop": done}
    helper = threading.Thread(target=detector.accelerate, kwargs=wanted, daemon=True)
    if options.runtime != "torch":
        helper.start()
    try:
        with _beside(results[0]) as folder, _stopped_by_ctrl_c() as stop:
            summary = process(options.source, folder, detector, settings, tell, stop)
            for name, result in zip(FILES, results, strict=True):
                (folder / name).replace(result)
    finally:
        done.set()
        if helper.ident:
            helper.join()
    how = "Stopped: " if summary.cancelled else ""
    print(f"\n{how}{summary.frames} frames written to {results[0]}")
    for note in summary.notes:
        print(note)
    if settings.line is not None:
        print(f"crossed downwards: {summary.crossed_down}, upwards: {summary.crossed_up}")
    return 130 if summary.cancelled else 0


def _results(source: Path, out: Path) -> list[Path]:
    """Where the clip, the JSON lines and the table go. Raises BadInput where they cannot."""
    if not source.is_file():
        raise BadInput(f"{source} is not there, or is no file. Give the clip to go through.")
    if out.suffix.lower() in CLIPS and not out.is_dir():
        if out.suffix.lower() != ".mp4":
            raise BadInput(f"The annotated clip is an MP4: name it {out.with_suffix('.mp4').name}.")
        results = [out, out.with_suffix(".jsonl"), out.with_suffix(".csv")]
    else:
        results = [out / name for name in FILES]
    if any(result.exists() and result.samefile(source) for result in results):
        raise BadInput("OUT is IN: the clip would be overwritten. Give OUT another name.")
    return results


@contextlib.contextmanager
def _beside(result: Path) -> Iterator[Path]:
    """A folder beside the result, to be renamed from when all is done; gone afterwards."""
    made = [folder for folder in (result.parent, *result.parent.parents) if not folder.exists()]
    try:
        result.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=result.parent))
    except OSError as error:
        raise BadInput(f"{result.parent} cannot be written: {error.strerror}.") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:  # where nothing came of it, no empty folder stays
            with contextlib.suppress(OSError):
                parent.rmdir()


@contextlib.contextmanager
def _stopped_by_ctrl_c() -> Iterator[threading.Event]:
    """Ctrl-C sets the event; a second one ends at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heard(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
