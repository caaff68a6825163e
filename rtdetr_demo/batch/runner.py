"""A run in this process: rows go into a journal, and from there into the file asked for."""

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ..checkpoints.loading import prepare as prepare_runtime
from ..detector.detector import Detector
from ..errors import BadInput
from .inputs import Picture
from .journal import Journal
from .pipeline import describe_run, detect_pictures
from .rows import RunInfo
from .writers import writer_of


def progress_bar(total: int, done: int) -> tqdm:
    """On stderr: pictures a second, and the time that is left."""
    # Where nobody looks on, a line in ten seconds is enough.
    pace = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, initial=done, unit=" pictures", mininterval=pace, dynamic_ncols=True)


def prepare(
    detector: Detector,
    runtime: str,
    layers: int | None,
    threshold: float,
    annotated: str | None = None,
) -> RunInfo:
    """Prepare the runtime that `Settings.runtime` names, for this depth, and describe the run.

    Preparing ends before the run begins, so that all rows come from the same arithmetic.
    """
    prepare_runtime(detector, runtime, detector.check_depth(layers))
    return describe_run(detector, layers, threshold, annotated)


def run_to_file(
    pictures: Sequence[Picture], detector: Detector, run: RunInfo, out: str, resume: bool
) -> int:
    """Write the rows of all pictures to `out`; gives how many could not be read.

    Killed, it leaves a journal beside `out`, which `resume` continues: the end is byte for byte
    that of a run that was never stopped. Raises BadInput.
    """
    write = writer_of(out)
    target = Path(out.rstrip("/"))
    if resume and target.exists() and not Journal(target).path.exists():
        print(f"{out} is whole: there is nothing to resume.", file=sys.stderr)
        return 0
    with Journal(target) as journal:
        journal.open(run, resume)
        left = [picture for picture in pictures if picture.name not in journal.done]
        with progress_bar(len(pictures), len(pictures) - len(left)) as bar:
            for row in detect_pictures(left, detector, run):
                journal.add(row)
                bar.update()
        write(target, journal.rows, run)
        journal.remove()
    return journal.failed


def run_to_stream(
    pictures: Sequence[Picture], detector: Detector, run: RunInfo, stream: IO[str]
) -> int:
    """Write each row as a line of JSON as soon as it is known; gives how many could not be read.

    Raises BadInput where the stream takes no more.
    """
    failed = 0
    with progress_bar(len(pictures), 0) as bar:
        for row in detect_pictures(pictures, detector, run):
            try:
                stream.write(json.dumps(row.to_json(run)) + "\n")
                stream.flush()
            except OSError as error:
                _forget(stream)
                raise BadInput(
                    f"Standard output could not be written: {error.strerror}. Name a file with "
                    "--out, which --resume can continue."
                ) from None
            failed += row.error is not None
            bar.update()
    return failed


def _forget(stream: IO[str]) -> None:
    """Let what a stream still holds go nowhere, so that the exit does not fail at it again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
