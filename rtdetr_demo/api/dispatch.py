"""From a request's pictures and settings to predictions, in fair turns."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from PIL import Image

from .. import metrics
from ..errors import BadInput, CheckpointError, Loading
from ..media import images as sources
from ..media.fetch import fetch
from ..predictions import Predictions, Selection
from ..serving.scheduler import MicroBatcher
from ..serving.service import WORKERS, Service
from .auth import Client, Rate, RequestContext
from .errors import Refusal
from .prompt import read_settings
from .schemas import Settings

if TYPE_CHECKING:
    from ..detector.detector import Detector

BATCH = 8
"""Pictures that go through a card together at most; there are two workers for each."""

FETCHES = 16
OWN_FETCHES = 4
"""Pictures that are fetched at once for the API, and for one client of it; the page's visitors
fetch beside it."""

Render = Callable[[Image.Image, Predictions, Selection], Any]


@dataclass(frozen=True)
class Source:
    """One picture: its bytes, or an address (http, https or data); `param` is where it stood."""

    content: bytes | str
    param: str


@dataclass(frozen=True)
class DetectionRequest:
    """A request under way: its settings, and in `answers` one task a picture, in their order."""

    checkpoint: str
    selection: Selection
    tokens: int
    """Feature-map positions that the encoder reads in all pictures."""
    queries: int
    """Queries that the decoder refines in all pictures."""
    answers: list[asyncio.Task]

    def settings(self) -> dict[str, Any]:
        """The settings that hold, of fields and text together, named as in `schemas.Applied`."""
        layers, threshold, classes, max_detections = self.selection
        return {
            "decoder_layers": layers,
            "threshold": threshold,
            "classes": None if classes is None else list(classes),
            "max_detections": max_detections,
        }


def as_json(_: Image.Image, predictions: Predictions, selection: Selection) -> dict:
    """A `Render` that gives `Predictions.to_json` of the selection."""
    return predictions.to_json(*selection)


class Dispatcher:
    """Runs the requests of API clients on one service, each client in its fair turns."""

    def __init__(self, service: Service):
        settings = service.settings
        self.service = service
        self.queue = service.queue
        self._batcher = MicroBatcher(self._detect, service.passes)
        self._rate = Rate(settings.api_rate)
        self._fetchers = ThreadPoolExecutor(FETCHES, "api-fetch")
        self._fetches = asyncio.Semaphore(FETCHES)
        self._own_fetches: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._loading: dict[str, Future] = {}
        self._guard = threading.Lock()

    @asynccontextmanager
    async def submit(
        self,
        context: RequestContext,
        checkpoint: str | None,
        pictures: Sequence[Source],
        settings: Settings,
        text: str = "",
        render: Render = as_json,
    ) -> AsyncIterator[DetectionRequest]:
        """Begin to detect in `pictures`; leaving the block cancels what is not answered by then.

        `checkpoint`: None for the one that serves. `settings` win over what `text` states.
        `render` makes each picture's answer of its predictions. Raises DemoError.
        """
        detector = self.detector(checkpoint)
        selection = _selection(detector, settings, text)
        batch = 1 if detector.device.type == "cpu" else BATCH

        def work(image: Image.Image) -> Any:
            found = self._batcher.detect(image, batch, detector.checkpoint, selection.layer)
            return render(image, found, selection)

        context.facts["decoder_layers"] = selection.layer
        async with self._accept(context, detector, pictures, work) as answers:
            yield DetectionRequest(
                detector.checkpoint,
                selection,
                len(pictures) * detector.tokens,
                len(pictures) * detector.queries,
                answers,
            )

    async def inspect(
        self, context: RequestContext, checkpoint: str | None, picture: Source, rank: int
    ) -> dict[str, Any]:
        """`Inspection.to_json` of the object that scores `rank`th highest. Raises DemoError."""
        detector = self.detector(checkpoint)
        if rank > detector.queries:
            raise Refusal(
                422,
                f"{detector.checkpoint} has {detector.queries} queries: choose an object from 1 "
                f"to {detector.queries}.",
                "no_such_object",
                "object",
            )

        def work(image: Image.Image) -> dict[str, Any]:
            found = self.service.inspect(image, detector.checkpoint)
            return found.to_json(found.ranked(rank))

        async with self._accept(context, detector, [picture], work) as answers:
            return await answers[0]

    @asynccontextmanager
    async def _accept(
        self,
        context: RequestContext,
        detector: "Detector",
        pictures: Sequence[Source],
        work: Callable[[Image.Image], Any],
    ) -> AsyncIterator[list[asyncio.Task]]:
        """Have `work` done on each picture in the client's turns, as tasks that end with the
        block."""
        context.facts |= {"checkpoint": detector.checkpoint, "pictures": len(pictures)}
        workers = WORKERS if detector.device.type == "cpu" else 2 * BATCH
        self.queue.start_workers(max(workers, self.service.passes))
        with self.queue.reserve(context.client.accounts, len(pictures)):
            self._rate.count(context.client, len(pictures))
            answers = [
                asyncio.create_task(self._answer(context.client, one, work)) for one in pictures
            ]
            try:
                yield answers
            finally:
                for answer in answers:
                    answer.cancel()
                await asyncio.gather(*answers, return_exceptions=True)

    def detector(self, checkpoint: str | None = None) -> "Detector":
        """The detector, without waiting: one that is not in memory begins to be loaded.

        Raises Loading until it is there, and CheckpointError where it cannot be loaded.
        """
        service, store = self.service, self.service.store
        name = service.check(checkpoint or service.active)
        if name in store.loaded():
            return store.get(name)
        download = store.downloading(name)
        if download and download.running:
            raise Loading(f"{name} is being downloaded. Send this again in a moment.")
        if not store.is_here(name):
            raise CheckpointError(
                f"{name} is not on this machine yet. Choose it on the page to download it, or "
                f"use {service.active}."
            )
        with self._guard:
            if name not in self._loading:
                self._loading[name] = Future()
                threading.Thread(target=self._load, args=(name,), daemon=True).start()
            error = None
            if self._loading[name].done():
                error = self._loading.pop(name).exception()
        if error:
            raise error
        raise Loading(f"{name} is being loaded. Send this again in a few seconds.")

    def _load(self, name: str) -> None:
        loading = self._loading[name]
        try:
            self.service.store.get(name)
        except BaseException as error:
            loading.set_exception(error)  # for whoever asks next
        else:
            with self._guard:
                del self._loading[name]

    async def _answer(
        self, client: Client, picture: Source, work: Callable[[Image.Image], Any]
    ) -> Any:
        content = picture.content
        is_address = isinstance(content, str) and content[:5].lower() != "data:"
        try:
            if is_address:
                content = await self._fetch(client, str(content))

            def take_turn() -> Any:
                metrics.STAGE_SECONDS.labels("queue").observe(time.perf_counter() - asked)
                with metrics.stage("decode"):
                    encoded = (
                        content if isinstance(content, bytes) else sources.read_data_uri(content)
                    )
                    image = self.service.pictures.read(encoded)
                return work(image)

            asked = time.perf_counter()
            # A visitor of the page at the same address has turns of their own.
            turns = f"api {client.name}"
            return await asyncio.wrap_future(self.queue.submit(turns, take_turn))
        except BadInput as error:
            code = "invalid_image_url" if is_address else "invalid_image"
            raise Refusal(error.status, str(error), code, picture.param) from None

    async def _fetch(self, client: Client, url: str) -> bytes:
        own = self._own_fetches.setdefault(client.name, asyncio.Semaphore(OWN_FETCHES))
        await own.acquire()
        try:
            await self._fetches.acquire()
        except BaseException:
            own.release()
            raise

        def ended(fetching: asyncio.Future) -> None:
            self._fetches.release()
            own.release()
            if not fetching.cancelled():
                fetching.exception()  # mark as retrieved: whoever wanted to know may be gone

        # A fetch under way cannot be stopped: it goes on, and counts, though its client is gone.
        fetching = asyncio.get_running_loop().run_in_executor(self._fetchers, self._get, url)
        fetching.add_done_callback(ended)
        return await asyncio.shield(fetching)

    def _get(self, url: str) -> bytes:
        with metrics.stage("fetch"):
            return fetch(url, self.service.settings.allowed_hosts)

    def _detect(
        self, images: Sequence[Image.Image], checkpoint: str, layers: int
    ) -> list[Predictions]:
        return self.service.detect_batch(images, checkpoint, layers, every_layer=False)

    def close(self) -> None:
        """Close the queue: what waits, and what comes later, fails with Busy."""
        self.queue.close()


def _selection(detector: "Detector", settings: Settings, text: str) -> Selection:
    """The settings that hold. Raises Refusal (422) for what this checkpoint cannot do."""
    given = {**read_settings(text, detector.class_names, detector.depth), **settings.given()}
    known = {name.lower(): name for name in detector.class_names}
    classes = None
    if given.get("classes") is not None:
        classes = [known.get(name.strip().lower(), name) for name in given["classes"]]
    for name in classes or ():
        if name not in detector.class_names:
            raise Refusal(
                422,
                f"“{name[:60]}” is not a class of {detector.checkpoint}. It knows: "
                f"{', '.join(detector.class_names)}.",
                "unknown_class",
                "classes",
            )
    try:
        layers = detector.check_depth(given.get("decoder_layers"))
    except BadInput as error:
        raise Refusal(422, str(error), "unavailable_depth", "decoder_layers") from None
    return Selection(layers, given.get("threshold", 0.5), classes, given.get("max_detections"))
