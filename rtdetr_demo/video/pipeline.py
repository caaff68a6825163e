"""The steps from a clip to a tracked, annotated clip; `runner` runs them in a child process."""

import contextlib
import csv
import dataclasses
import errno
import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import av
import cv2
import numpy as np

from ..errors import Cancelled, DiskFull
from ..media.exporters import csv_text
from ..predictions import Predictions
from .io import Frame, Reader, Writer
from .options import FILES, Limits, Options, Progress, Summary
from .tracking import FrameAnnotator, Tracked, Tracker

T = TypeVar("T")

MOST_WAITING = 32
"""Frames that are held until a batch of those to detect in is full."""

PREVIEW_SIZE = 640
"""Longest side of the picture that tells how far it is, in pixels."""

HDR_NOTE = "This clip is in HDR ({}): it was tone-mapped to SDR (BT.709) for detecting and drawing."

Detect = Callable[[list[np.ndarray]], list[Predictions]]
"""RGB frames to their predictions."""


class Prefetcher(Generic[T]):
    """Runs an iterable in a thread of its own, a few items ahead of its consumer."""

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


def annotate_clip(
    source: Path,
    folder: Path,
    class_names: Sequence[str],
    detect: Detect,
    batch: int,
    options: Options,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
    limits: Limits,
) -> Summary:
    """See `runner.process`; `detect` is asked with up to `batch` frames at a time."""
    try:
        return _annotate(
            source, folder, class_names, detect, batch, options, on_progress, stop, limits
        )
    except BaseException as error:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full: free some space, then try again.") from None
        raise


def _annotate(
    source: Path,
    folder: Path,
    class_names: Sequence[str],
    detect: Detect,
    batch: int,
    options: Options,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
    limits: Limits,
) -> Summary:
    summary = Summary()
    with Reader(source, limits) as reader, _Tables(folder) as tables:
        writer = Writer(folder / "annotated.mp4", reader)
        ahead = Prefetcher(reader)
        found = _detected(ahead, detect, batch, options)
        drawn = Prefetcher(
            _drawn(found, reader, class_names, options, tables, summary, stop, on_progress)
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
    if reader.hdr:
        summary.notes.append(HDR_NOTE.format(reader.hdr))
    if summary.cancelled and not summary.frames:
        raise Cancelled("Cancelled before the first frame was done.")
    return summary


def _drawn(
    items: Iterable[tuple[Frame | av.Packet, np.ndarray, Predictions | None]],
    reader: Reader,
    class_names: Sequence[str],
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
    for item, pixels, predictions in items:
        if stop.is_set():
            summary.cancelled = True
            break
        if not isinstance(item, Frame):
            yield item
            continue
        if annotator is None:
            annotator = FrameAnnotator(
                class_names, (pixels.shape[1], pixels.shape[0]), options.line
            )
        fresh = predictions is not None
        if predictions is not None:
            tracked = tracks.update(
                predictions.select(predictions.layers, options.threshold, options.classes)
            )
            tables.add(item, tracked)
            for track in tracked:
                seen[int(item.time)][track.found.label].add(track.id)
        picture = annotator.draw(pixels, tracked, fresh)
        progress.done += 1
        now = time.monotonic()
        if now - told > 0.5:
            told = now
            progress.fps = progress.done / (now - began)
            if progress.total:
                progress.left = max(progress.total - progress.done, 0) / progress.fps
            progress.preview = _resized(picture, PREVIEW_SIZE)
            on_progress(progress)
        yield dataclasses.replace(item, pixels=picture)
    summary.seen = [
        {label: len(ids) for label, ids in seen[second].items()}
        for second in range(max(seen, default=-1) + 1)
    ]
    if annotator is not None and annotator.zone is not None:
        summary.crossed_down, summary.crossed_up = annotator.zone.out_count, annotator.zone.in_count
    on_progress(progress)


def _detected(
    items: Iterable[Frame | av.Packet], detect: Detect, batch: int, options: Options
) -> Iterator[tuple[Frame | av.Packet, np.ndarray, Predictions | None]]:
    """Each item with its picture in the output's size, and predictions where the stride asks."""
    waiting: list[tuple[Frame | av.Packet, np.ndarray]] = []
    asked: list[np.ndarray] = []

    def is_wanted(item: Frame | av.Packet) -> bool:
        return isinstance(item, Frame) and item.index % options.stride == 0

    def flush() -> Iterator[tuple[Frame | av.Packet, np.ndarray, Predictions | None]]:
        answers = iter(detect(asked) if asked else [])
        for item, pixels in waiting:
            yield item, pixels, next(answers) if is_wanted(item) else None
        waiting.clear()
        asked.clear()

    for item in items:
        pixels = np.empty(0)
        if isinstance(item, Frame):
            pixels = _resized(item.pixels, options.longest)
            item = dataclasses.replace(item, pixels=pixels)  # lets the original go
        waiting.append((item, pixels))
        if is_wanted(item):
            asked.append(pixels)
        frames = sum(isinstance(one, Frame) for one, _ in waiting)
        if len(asked) >= batch or not asked or frames >= max(MOST_WAITING, batch):
            yield from flush()
    yield from flush()


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
        self._lines = (folder / "detections.jsonl").open("w", encoding="utf-8")
        self._table = (folder / "detections.csv").open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._table)
        self._csv.writerow(
            ["frame", "time", "id", "label", "score", "xmin", "ymin", "xmax", "ymax"]
        )

    def add(self, frame: Frame, tracked: Sequence[Tracked]) -> None:
        moment = round(frame.time, 4)
        found = [{"id": track.id, **track.found.to_json()} for track in tracked]
        self._lines.write(
            json.dumps({"frame": frame.index, "time": moment, "detections": found}) + "\n"
        )
        for track in tracked:
            box = [round(v, 1) for v in track.found[3:]]
            label = csv_text(track.found.label)
            row = [frame.index, moment, track.id, label, round(track.found.score, 4), *box]
            self._csv.writerow(row)

    def __enter__(self) -> "_Tables":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._table.close()
