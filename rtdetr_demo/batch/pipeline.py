"""Pictures to rows: reading, decoding, detecting and drawing side by side, in the order given."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from ..detector.detector import Detector
from ..errors import BadInput, DemoError
from ..media.exporters import annotate
from ..media.images import read_picture
from ..predictions import Detection, Predictions
from .inputs import Picture, read
from .rows import Row, RunInfo
from .storage import filesystem, put

A = TypeVar("A")
B = TypeVar("B")

READERS = 16
"""Pictures that are read or fetched at once: that is waiting, not work."""

GPU_BATCH = 16


def describe_run(
    detector: Detector, layers: int | None, threshold: float, annotated: str | None
) -> RunInfo:
    """The settings that all rows share. Raises BadInput for layers outside 1 to the depth."""
    depth = detector.check_depth(layers)
    return RunInfo(
        detector.checkpoint,
        detector.class_names,
        depth,
        threshold,
        detector.runtime().name,
        annotated,
    )


def detect_pictures(pictures: Iterable[Picture], detector: Detector, run: RunInfo) -> Iterator[Row]:
    """One row a picture, in their order, whatever is wrong with some of them.

    A picture drawn for `run.annotated` lies there before its row is given. Memory holds a few
    pictures at a time. Raises BadInput where drawn pictures cannot be written.
    """
    cores = torch.get_num_threads()  # as many as this process was given
    batch = GPU_BATCH if detector.device.type == "cuda" else 1
    with ExitStack() as pools:

        def pool(threads: int) -> Executor:
            made = ThreadPoolExecutor(threads)
            pools.callback(made.shutdown, cancel_futures=True)
            return made

        contents = _ahead(pool(READERS), _read, pictures, 2 * READERS)
        decoded = _ahead(pool(cores), _decode, contents, batch + cores)
        detected = _detect(decoded, detector, run, batch)
        if run.annotated is None:
            yield from (row for row, _ in detected)
            return
        where = run.annotated
        yield from _ahead(pool(cores), lambda one: _draw(where, *one), detected, 2 * cores)


def _ahead(pool: Executor, work: Callable[[A], B], items: Iterable[A], window: int) -> Iterator[B]:
    """Results in the order of the items, of which at most `window` are in the pool."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) == window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read(picture: Picture) -> tuple[Picture, bytes | Path | DemoError]:
    try:
        return picture, read(picture.name)
    except DemoError as error:
        return picture, error


def _decode(
    one: tuple[Picture, bytes | Path | DemoError],
) -> tuple[Picture, Image.Image | DemoError]:
    picture, content = one
    try:
        return picture, content if isinstance(content, DemoError) else read_picture(content)
    except DemoError as error:
        return picture, error


def _detect(
    decoded: Iterator[tuple[Picture, Image.Image | DemoError]],
    detector: Detector,
    run: RunInfo,
    batch: int,
) -> Iterator[tuple[Row, Image.Image | None]]:
    while some := list(islice(decoded, batch)):
        images = [image for _, image in some if isinstance(image, Image.Image)]
        answers = iter(_pass(images, detector, run, batch))
        for picture, image in some:
            if isinstance(image, DemoError):
                row = Row(picture.name, picture.stem, error=str(image), file=picture.file)
                yield row, None
            else:
                found = next(answers).select(run.decoder_layers, run.threshold)
                note = image.info.get("note")
                row = Row(
                    picture.name,
                    picture.stem,
                    *image.size,
                    tuple(found),
                    file=picture.file,
                    note=note,
                )
                yield row, image


def _pass(
    images: list[Image.Image], detector: Detector, run: RunInfo, batch: int
) -> list[Predictions]:
    if not images:
        return []
    # Always the same number: a card computes other sizes by other ways, which round otherwise, and
    # a row must not depend on what came with it.
    filled = images + images[-1:] * (batch - len(images))
    found = detector.detect_batch(filled, run.decoder_layers, every_layer=False)
    return found[: len(images)]


def _draw(folder: str, row: Row, image: Image.Image | None) -> Row:
    if image is not None:
        drawn = io.BytesIO()
        annotate(image, list[Detection](row.found)).save(drawn, "JPEG", quality=90)
        storage, root = filesystem(folder)
        path = f"{root}/{row.stem}.jpg"
        try:
            put(storage, path, drawn.getvalue())
        except OSError as error:
            raise BadInput(
                f"{path} could not be written: {error.strerror or error}. Mend that; a run with "
                "--out goes on with --resume."
            ) from None
    return row
