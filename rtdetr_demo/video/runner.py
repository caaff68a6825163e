"""A clip in; a tracked, annotated clip out. Also `python -m rtdetr_demo video`.

A child process decodes, tracks, draws and encodes; it asks this one for detections. What a clip
does to a decoder ends that child alone.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..children import child_context, settle_as_child
from ..errors import BadInput, Cancelled, DemoError
from ..predictions import Predictions
from .options import FILES, Limits, Options, Progress, Summary

if TYPE_CHECKING:
    from ..detector.detector import Detector

GPU_BATCH = 8
SILENT_SECONDS = 60.0
"""A child that says nothing for so long is stuck in a decoder."""
CHILD_BYTES = 16 * 2**30
"""Address space of a child. The largest clip takes 2.5 GB on two cores; each thread more of a
decoder or an encoder reserves some 70 MB."""
CANCEL_SECONDS = 15.0
"""What a child that was told to stop has for finishing its files."""


@dataclass(frozen=True)
class FrameDetector:
    """What finds objects in frames: `detect` takes up to `batch` RGB pictures at a time."""

    class_names: tuple[str, ...]
    detect: Callable[[Sequence[Image.Image]], list[Predictions]]
    batch: int = 1


def with_detector(detector: "Detector", options: Options) -> FrameDetector:
    """A loaded detector for frames. A card gets them in batches; a CPU gains nothing by that."""

    def detect(images: Sequence[Image.Image]) -> list[Predictions]:
        return detector.detect_batch(
            images,
            options.decoder_layers,
            queries=options.queries,
            size=options.size,
            every_layer=False,
        )

    batch = GPU_BATCH if detector.device.type == "cuda" else 1
    return FrameDetector(detector.class_names, detect, batch)


def process(
    source: Path,
    folder: Path,
    detector: "FrameDetector | Detector",
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
    limits: Limits | None = None,
) -> Summary:
    """Detect, track and draw in a clip; decoding, detecting and encoding overlap.

    Writes `annotated.mp4`, `detections.jsonl` and `detections.csv` into `folder`. When `stop` is
    set, or the limit of work is reached, it ends with the frame at hand, and what is written is
    whole. Raises BadInput, DiskFull, and Cancelled where it was stopped before the first frame;
    then none of the files stays.
    """
    options.check()
    if not isinstance(detector, FrameDetector):
        detector = with_detector(detector, options)
    limits = limits or Limits()
    context = child_context()
    parent_end, child_end = context.Pipe()
    arguments = (child_end, source, folder, detector.class_names, detector.batch, options, limits)
    child = context.Process(target=_run_child, args=arguments, daemon=True)
    child.start()
    child_end.close()  # so that its end is heard here when the child is gone
    try:
        summary = _serve(parent_end, detector, on_progress, stop or threading.Event(), limits)
    except BaseException as error:
        _end(parent_end, child)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        if isinstance(error, EOFError | ConnectionError):
            raise BadInput(
                "This video crashed its decoder, so it cannot be used. Save it again, for "
                "example as MP4 with H.264, and send that."
            ) from None
        raise
    _end(parent_end, child)
    return summary


def _end(pipe: Connection, child: Any) -> None:
    pipe.close()
    child.join(2)
    if child.is_alive():
        child.kill()
        child.join()
    child.close()


def _serve(
    child: Connection,
    detector: FrameDetector,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
    limits: Limits,
) -> Summary:
    """Answer the child until it has a summary."""
    heard, end = time.monotonic(), time.monotonic() + limits.work_seconds
    told_to_stop: float | None = None
    while True:
        now = time.monotonic()
        if told_to_stop is None and (stop.is_set() or now > end):
            told_to_stop = now
            child.send(("stop", None))
        if not child.poll(0.05):
            if told_to_stop is not None and now - told_to_stop > CANCEL_SECONDS:
                raise Cancelled("Cancelled before any result could be saved.")
            if now - heard > SILENT_SECONDS:
                raise BadInput(
                    "This video makes its decoder hang, so it cannot be used. Save it "
                    "again, for example as MP4 with H.264, and send that."
                )
            continue
        kind, content = child.recv()
        if kind == "frames":
            found = detector.detect([Image.fromarray(pixels) for pixels in content])
            child.send(("found", found))
        elif kind == "progress":
            on_progress(content)
        elif kind == "summary":
            return content
        else:
            raise content
        heard = time.monotonic()


def _run_child(
    parent: Connection,
    source: Path,
    folder: Path,
    class_names: tuple[str, ...],
    batch: int,
    options: Options,
    limits: Limits,
) -> None:
    settle_as_child(CHILD_BYTES)
    stop = threading.Event()
    answers = _Answers(parent, stop)

    def detect(frames: list[np.ndarray]) -> list[Predictions]:
        answers.send("frames", frames)
        return answers.wait()

    def tell(progress: Progress) -> None:
        answers.send("progress", progress)

    try:
        # It brings PyAV, OpenCV and supervision along, which the parent need not have.
        from .pipeline import annotate_clip

        summary = annotate_clip(
            source, folder, class_names, detect, batch, options, tell, stop, limits
        )
        answers.send("summary", summary)
    except DemoError as error:
        answers.send("error", error)
    except EOFError:
        pass  # the parent is gone


class _Answers:
    """The child's end of the talk: what the parent sends is heard while work goes on."""

    def __init__(self, parent: Connection, stop: threading.Event):
        self._parent = parent
        self._stop = stop
        self._found: list[list[Predictions]] = []
        self._changed = threading.Condition()
        self._is_gone = False
        self._sending = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, kind: str, content: object) -> None:
        with self._sending:
            try:
                self._parent.send((kind, content))
            except OSError:
                raise EOFError from None

    def wait(self) -> list[Predictions]:
        """The predictions that were asked for. Raises EOFError where the parent is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._found or self._is_gone)
            if not self._found:
                raise EOFError
            return self._found.pop()

    def _listen(self) -> None:
        try:
            while True:
                kind, content = self._parent.recv()
                if kind == "stop":
                    self._stop.set()
                    continue
                with self._changed:
                    self._found.append(content)
                    self._changed.notify_all()
        except (EOFError, OSError):
            self._stop.set()
            with self._changed:
                self._is_gone = True
                self._changed.notify_all()
