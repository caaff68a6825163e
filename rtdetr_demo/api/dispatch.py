"""From a request's pictures and settings to its answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..engine.requests import Params
from ..errors import BadInput
from ..predictions import Predictions, Selection
from ..serving.service import Service
from .auth import Client, Rate, RequestContext
from .errors import Refusal
from .prompt import read_settings
from .schemas import Settings

if TYPE_CHECKING:
    from ..detector.detector import Detector

Render = Callable[[Image.Image, Predictions, Selection], Any]
Work = Callable[[str, Image.Image], Awaitable[Any]]
"""What is done on behalf of a client with a decoded picture."""


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


def as_json(image: Image.Image, predictions: Predictions, selection: Selection) -> dict:
    """A `Render`: `Predictions.to_json` of the selection and, if there is something to say about
    the picture, such as that its end is missing, a `note`."""
    note = image.info.get("note")
    return {**predictions.to_json(*selection), **({"note": note} if note else {})}


class Dispatcher:
    """Runs the requests of API clients on one service's engine."""

    def __init__(self, service: Service):
        self.service = service
        self._rate = Rate(service.settings.api_rate)

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

        Args:
            context: Whose request it is.
            checkpoint: Name of a checkpoint; None for the active one.
            pictures: Bytes or addresses.
            settings: Settings of the request's fields, which win over those that `text` states.
            text: The request's text.
            render: Makes each picture's answer from its predictions.

        Raises:
            DemoError: The request cannot be taken on.
        """
        detector = await self.detector(checkpoint)
        selection = _selection(detector, settings, text)
        params = Params(detector.checkpoint, selection.layer, every_layer=False)
        context.facts["decoder_layers"] = selection.layer

        async def work(client: str, image: Image.Image) -> Any:
            engine = self.service.engine
            submitted = engine.submit(client, image, params, detector=detector)
            predictions = await asyncio.wrap_future(submitted)
            if render is as_json:
                return render(image, predictions, selection)
            return await asyncio.to_thread(render, image, predictions, selection)

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
        detector = await self.detector(checkpoint)
        if rank > detector.queries:
            raise Refusal(
                422,
                f"{detector.checkpoint} has {detector.queries} queries: choose an object from 1 "
                f"to {detector.queries}.",
                "no_such_object",
                "object",
            )

        async def work(client: str, image: Image.Image) -> dict[str, Any]:
            params = Params(detector.checkpoint)
            inspecting = self.service.engine.inspect(client, image, params, detector=detector)
            inspection = await asyncio.wrap_future(inspecting)
            return await asyncio.to_thread(lambda: inspection.to_json(inspection.ranked(rank)))

        async with self._accept(context, detector, [picture], work) as answers:
            return await answers[0]

    @asynccontextmanager
    async def _accept(
        self,
        context: RequestContext,
        detector: "Detector",
        pictures: Sequence[Source],
        work: Work,
    ) -> AsyncIterator[list[asyncio.Task]]:
        """Do `work` on each picture, as tasks that end with the block."""
        context.facts |= {"checkpoint": detector.checkpoint, "pictures": len(pictures)}
        with self.service.engine.admission.admit(context.client.accounts, len(pictures)):
            self._rate.count(context.client, len(pictures))
            answers = [
                asyncio.create_task(self._answer(context.client, picture, work))
                for picture in pictures
            ]
            try:
                yield answers
            finally:
                for answer in answers:
                    answer.cancel()
                await asyncio.gather(*answers, return_exceptions=True)

    async def detector(self, checkpoint: str | None = None) -> "Detector":
        """The detector, once it is loaded. Raises CheckpointError where it cannot be, and Loading
        where it is being downloaded."""
        return await asyncio.wrap_future(self.service.checkpoints.request(checkpoint))

    async def _answer(self, client: Client, picture: Source, work: Work) -> Any:
        content = picture.content
        is_address = isinstance(content, str) and content[:5].lower() != "data:"
        # A visitor of the page at the same address has turns of their own.
        turns = f"api {client.name}"
        try:
            image = await asyncio.wrap_future(self.service.engine.open(turns, content))
            return await work(turns, image)
        except BadInput as error:
            code = "invalid_image_url" if is_address else "invalid_image"
            raise Refusal(error.status, str(error), code, picture.param) from None


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
