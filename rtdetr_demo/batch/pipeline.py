"""Pictures to rows, in order: reading, decoding, detecting and drawing side by side."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..detector.detector import Detector
from ..engine.devices import LocalDevice
from ..engine.engine import Engine
from ..engine.requests import Params, Prepared
from ..errors import BadInput, DemoError
from ..media.exporters import annotate
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


class _FixedBatches(LocalDevice):
    """Passes that always have the same number of pictures.

    A GPU computes batches of other sizes in other ways, which round differently, and a row must not
    depend on the pictures that were processed with it.
    """

    def batch_limit(self, detector: Detector) -> int:
        """Pictures of each pass."""
        return 1 if detector.device.type == "cpu" else GPU_BATCH

    def detect(
        self, detector: Detector, pictures: Sequence[Prepared], params: Params
    ) -> list[Predictions]:
        """Run one pass over prepared pictures and, where they are too few, copies of the last."""
        missing = self.batch_limit(detector) - len(pictures)
        filled = [*pictures, *[pictures[-1]] * missing]
        return super().detect(detector, filled, params)[: len(pictures)]


def detect_pictures(pictures: Iterable[Picture], detector: Detector, run: RunInfo) -> Iterator[Row]:
    """One row per picture, in their order, whatever is wrong with some of them.

    A picture drawn for `run.annotated` is written before its row is returned. Memory holds a few
    pictures at a time. Raises BadInput where drawn pictures cannot be written.
    """
    loaded: Future[Detector] = Future()
    loaded.set_result(detector)
    device = _FixedBatches()
    # Enough that reading and fetching, which is waiting, never leaves the device without work.
    window = 2 * (READERS + device.batch_limit(detector))
    engine = Engine(lambda name: loaded, device, capacity=window, share=window)
    params = Params(decoder_layers=run.decoder_layers, every_layer=False)

    def work(numbered: tuple[int, Picture]) -> Row:
        number, picture = numbered
        # Many clients: one alone would not get every decoder.
        client = f"{number % window}"
        try:
            content = read(picture.name)
            content = content.read_bytes() if isinstance(content, Path) else content
            image = engine.open(client, content).result()
            predictions = engine.submit(client, image, params).result()
        except DemoError as error:
            return Row(picture.name, picture.stem, error=str(error), file=picture.file)
        detections = tuple(predictions.select(run.decoder_layers, run.threshold))
        note = image.info.get("note")
        row = Row(picture.name, picture.stem, *image.size, detections, file=picture.file, note=note)
        if run.annotated is not None:
            _draw(run.annotated, row, image)
        return row

    threads = ThreadPoolExecutor(window, "batch")
    try:
        yield from _in_order(threads, work, enumerate(pictures), window)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        engine.close()


def _in_order(
    pool: Executor, work: Callable[[A], B], items: Iterable[A], window: int
) -> Iterator[B]:
    """Results in the order of the items, of which at most `window` are in the pool."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) == window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _draw(folder: str, row: Row, image: Image.Image) -> None:
    """Write a picture with its detections. Raises BadInput where it cannot be written."""
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
