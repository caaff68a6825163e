"""Why the model found it: the page's server function, and `/inspect` of the Gradio API."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import gradio as gr
from cachetools import LRUCache
from pydantic import Field, StrictFloat, StrictInt

from ..engine.requests import Params
from ..errors import BadInput
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .pictures import Detect, sent_file, source_of
from .rpc import owner, run_for_visitor, server_function, visitor

if TYPE_CHECKING:
    from ..detector.inspection import Inspection

KEPT = 8
"""Inspections that are held for whoever asks for another detection of the same picture: some
3 MB each."""

Number = StrictFloat | StrictInt


class Inspect(Detect):
    """The detection to look behind. `known`: the page has the picture's overview already."""

    label: Annotated[str, Field(max_length=500)]
    box: Annotated[list[Number], Field(min_length=4, max_length=4)]
    score: Annotated[Number, Field(ge=0, le=1)]
    layer: StrictInt
    known: bool = False


def inspect_function(service: Service, results: ResultStore) -> Callable[[Any], dict]:
    """The server function `inspect`."""
    kept: LRUCache[tuple, Inspection] = LRUCache(KEPT)
    guard = threading.Lock()

    @server_function(Inspect, service.engine)
    def inspect(request: Inspect) -> dict:
        """Why the model found one detection: see `Inspection.to_json`."""
        if request.result is None and request.example is None:
            raise BadInput("This picture is not available. Open it again.")
        if request.result is not None:  # an inspection may be kept for longer than its result
            results.get(request.result, owner())
        checkpoint = service.checkpoints.check(request.checkpoint)
        name = (request.result, request.example, checkpoint, request.queries, request.size)
        with guard:
            found = kept.get(name)
        if found is None:
            source = source_of(request, service, results)
            params = request.params(checkpoint)
            found = service.engine.inspect(visitor(), source, params, request.ticket or "").result()
            with guard:
                kept[name] = found
        query = found.find(request.label, request.box, request.score, request.layer)
        if request.known:
            return {"queries": [found.query_json(query)]}
        return found.to_json(query)

    return inspect


def add_inspect_api(service: Service, results: ResultStore) -> None:
    """Add `/inspect` to the current Blocks."""

    async def inspect(
        image: gr.FileData | dict, checkpoint: str | None = None, rank: int | None = 1
    ) -> dict:
        """Why the model found an object: its query's origin, refinement and attention.

        Parameters:
            image: The picture: JPEG, PNG, WebP, GIF, TIFF or HEIC.
            checkpoint: A checkpoint of the picker; the one that serves by default.
            rank: Which object, by its score after the last layer: 1 is the best (default: 1).
        Returns:
            The encoder's scores, every query's box at every layer, the energy of the maps, and for
            the object's query its sampling points, its classes and its rivals.
        """

        def work() -> dict:
            source = source_of(sent_file(image), service, results)
            found = service.engine.inspect(visitor(), source, Params(checkpoint)).result()
            return found.to_json(found.ranked(1 if rank is None else rank))

        return await run_for_visitor(service.engine, work)

    gr.api(inspect, api_name="inspect", concurrency_limit=None)
