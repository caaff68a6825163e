"""A clip in; a tracked, annotated clip out. Also `python -m rtdetr_demo video`."""

import contextlib
import csv
import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import av
import cv2
import numpy as np
from PIL import Image

from ..errors import BadInput, Cancelled
from ..model.detector import Detector
from ..predictions import Predictions, check_threshold
from .io import FILES, Frame, Limits, Reader, Writer
from .tracking import FrameAnnotator, Tracked, Tracker

T = TypeVar("T")

GPU_BATCH = 8


@dataclass(frozen=True)
class Options:
    """How to go through a clip.

    `stride`: detect in every n-th frame; those between keep the boxes of the one before.
    `longest`: longest side of the output, in pixels. `line`: count tracks that cross a level line
    at this share of the height (0 is the top). `queries`, `size`: see `Detector.detect`.
    """

    decoder_layers: int | None = None
    threshold: float = 0.5
    classes: tuple[str, ...] | None = None
    stride: int = 1
    longest: int | None = None
    line: float | None = None
    queries: int | None = None
    size: int | None = None

    def wants(self, item: "Frame | av.Packet") -> bool:
        """Whether to detect in this one."""
        return isinstance(item, Frame) and item.index % self.stride == 0

    def check(self) -> "Options":
        """Raises BadInput for a value out of range."""
        check_threshold(self.threshold)
        if not 1 <= self.stride <= 100:
            raise BadInput("The stride is a whole number from 1 to 100.")
        if self.longest is not None and not 64 <= self.longest <= 3840:
            raise BadInput("The output's longest side is from 64 to 3840 pixels.")
        if self.line is not None and not 0 < self.line < 1:
            raise BadInput("The line lies between 0 (top) and 1 (bottom) of the height.")
        return self


@dataclass
class Progress:
    """How far it is. `left`: seconds to go, where the number of frames is known."""

    done: int = 0
    total: int | None = None
    fps: float = 0.0
    left: float | None = None
    preview: np.ndarray | None = None


@dataclass
class Summary:
    """What came of it. `seen`: per second of the clip and label, how many tracks were in sight."""

    frames: int = 0
    cancelled: bool = False
    seen: list[dict[str, int]] = field(default_factory=list)
    crossed_down: int = 0
    crossed_up: int = 0


class Prefetcher(Generic[T]):
    """Runs an iterable in a thread of its own, a few items ahead of whoever iterates over this."""

    _END = object()

    def __init__(self, items: Iterable[T], ahead: int = 8):
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def _run(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        self._put(self._END)

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return True
        return False

    def __iter__(self) -> Iterator[T]:
        while (item := self._queue.get()) is not self._END:
            yield item
        if self._error:
            raise self._error

    def close(self) -> None:
        """Stop, whatever is left."""
        self._stop.set()
        self._thread.join()


def process(
    source: Path,
    folder: Path,
    detector: Detector,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
    limits: Limits | None = None,
) -> Summary:
    """Detect, track and draw in a clip; decoding, detecting and encoding overlap.

    Writes `annotated.mp4`, `detections.jsonl` and `detections.csv` into `folder`. When `stop` is
    set it ends with the frame at hand, and what is written is whole. Raises BadInput, and Cancelled
    where it was stopped before the first frame; then none of the files stays.
    """
    options.check()
    try:
        return _process(source, folder, detector, options, on_progress, stop, limits)
    except BaseException:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        raise


def _process(
    source: Path,
    folder: Path,
    detector: Detector,
    options: Options,
    on_progress: Callable[[Progress], None],
    stop: threading.Event | None,
    limits: Limits | None,
) -> Summary:
    stop = stop or threading.Event()
    summary = Summary()
    with Reader(source, limits) as reader, _Tables(folder) as tables:
        ahead = Prefetcher(reader)
        writer = Writer(folder / "annotated.mp4", reader)
        drawn = Prefetcher(
            _drawn(ahead, reader, detector, options, tables, summary, stop, on_progress)
        )
        try:
            for item in drawn:
                if isinstance(item, Frame):
                    writer.picture(item)
                    summary.frames += 1
                else:
                    writer.packet(item)
        except BaseException:
            stop.set()
            raise
        finally:
            drawn.close()
            ahead.close()
            writer.close()
    if summary.cancelled and not summary.frames:
        raise Cancelled("Cancelled before the first frame was done.")
    return summary


def _drawn(
    items: Iterable[Frame | av.Packet],
    reader: Reader,
    detector: Detector,
    options: Options,
    tables: "_Tables",
    summary: Summary,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> Iterator[Frame | av.Packet]:
    """The clip's frames with detections drawn on them; sound passes through."""
    rate = float(reader.rate)
    tracks, annotator, tracked = Tracker(rate / options.stride), None, list[Tracked]()
    seen: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    progress, began, told = Progress(total=reader.frames), time.monotonic(), 0.0
    for item, pixels, predictions in _detected(items, detector, options):
        if stop.is_set():
            summary.cancelled = True
            break
        if not isinstance(item, Frame):
            yield item
            continue
        if annotator is None:
            annotator = FrameAnnotator(
                detector.class_names, (pixels.shape[1], pixels.shape[0]), options.line
            )
        fresh = predictions is not None
        if predictions is not None:
            tracked = tracks.update(
                predictions.select(predictions.layers, options.threshold, options.classes)
            )
            tables.add(item, tracked)
            for one in tracked:
                seen[int(item.time)][one.found.label].add(one.id)
        picture = annotator.draw(pixels, tracked, fresh)
        progress.done += 1
        now = time.monotonic()
        if now - told > 0.5:
            told = now
            progress.fps = progress.done / (now - began)
            if progress.total:
                progress.left = max(progress.total - progress.done, 0) / progress.fps
            progress.preview = picture
            on_progress(progress)
        yield Frame(item.index, item.pts, item.time, picture)
    summary.seen = [
        {label: len(ids) for label, ids in seen[second].items()}
        for second in range(max(seen, default=-1) + 1)
    ]
    if annotator is not None and annotator.zone is not None:
        summary.crossed_down, summary.crossed_up = annotator.zone.out_count, annotator.zone.in_count
    on_progress(progress)


def _detected(
    items: Iterable[Frame | av.Packet], detector: Detector, options: Options
) -> Iterator[tuple[Frame | av.Packet, np.ndarray, Predictions | None]]:
    """Each item with its picture in the output's size, and predictions where the stride asks.

    A card gets frames in batches; a CPU gains nothing by them.
    """
    batch = _batch(detector)
    waiting: list[tuple[Frame | av.Packet, np.ndarray]] = []
    images: list[Image.Image] = []

    def flush() -> Iterator[tuple[Frame | av.Packet, np.ndarray, Predictions | None]]:
        answers = iter(
            detector.detect_batch(
                images,
                options.decoder_layers,
                queries=options.queries,
                size=options.size,
                every_layer=False,
            )
            if images
            else []
        )
        for item, pixels in waiting:
            yield item, pixels, next(answers) if options.wants(item) else None
        waiting.clear()
        images.clear()

    for item in items:
        pixels = np.empty(0)
        if isinstance(item, Frame):
            pixels = _resized(item.pixels, options.longest)
        waiting.append((item, pixels))
        if options.wants(item):
            images.append(Image.fromarray(pixels))
        frames = sum(isinstance(one, Frame) for one, _ in waiting)
        if len(images) >= batch or not images or frames >= 4 * GPU_BATCH:
            yield from flush()
    yield from flush()


def _batch(detector: Detector) -> int:
    return GPU_BATCH if detector.device.type == "cuda" else 1


def _resized(pixels: np.ndarray, longest: int | None) -> np.ndarray:
    height, width = pixels.shape[:2]
    if longest is None or max(height, width) <= longest:
        return pixels
    scale = longest / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


class _Tables:
    """The detections of every frame, as JSON lines and as CSV."""

    def __init__(self, folder: Path):
        self._lines = (folder / "detections.jsonl").open("w")
        self._table = (folder / "detections.csv").open("w", newline="")
        self._csv = csv.writer(self._table)
        self._csv.writerow(
            ["frame", "time", "id", "label", "score", "xmin", "ymin", "xmax", "ymax"]
        )

    def add(self, frame: Frame, tracked: Sequence[Tracked]) -> None:
        moment = round(frame.time, 4)
        found = [{"id": one.id, **one.found.to_json()} for one in tracked]
        self._lines.write(
            json.dumps({"frame": frame.index, "time": moment, "detections": found}) + "\n"
        )
        for one in tracked:
            box = [round(v, 1) for v in one.found[3:]]
            row = [frame.index, moment, one.id, one.found.label, round(one.found.score, 4), *box]
            self._csv.writerow(row)

    def __enter__(self) -> "_Tables":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._table.close()
