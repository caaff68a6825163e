"""What assistants may call: `detect_objects`, a tool of the Model Context Protocol (MCP)."""

import json
from typing import Any

import gradio as gr

from .. import __version__
from ..api.gradio_routes import TOOL
from ..api.schemas import split_names
from ..engine.requests import Params
from ..errors import BadInput
from ..media import exporters as export
from ..media import images as sources
from ..predictions import Selection, check_threshold, is_whole
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .pictures import jpeg
from .rpc import DEFAULT_THRESHOLD, owner, run_for_visitor, visitor

_FILE_ADDRESS = "Image URL: "
"""How Gradio begins the address of a picture, beside the picture itself: it holds a path."""

SHOWN_SIZE = 1024
"""Longest side, in pixels, of the annotated picture: assistants take about a megabyte."""


def add_tools(service: Service, results: ResultStore) -> None:
    """Add them to the current Blocks."""

    async def detect_objects(
        image: str,
        decoder_layers: int | None = None,
        threshold: float | None = DEFAULT_THRESHOLD,
        classes: list[str] | str | None = None,
        max_detections: int | None = None,
    ) -> tuple[gr.FileData, str]:
        """Find objects in a picture with RT-DETR: what they are, how sure that is, and where.

        Gives the picture with the boxes drawn, and JSON: label, score (0 to 1) and box (xmin, ymin,
        xmax, ymax in pixels of the original picture) of each, best first.

        Parameters:
            image: The picture: an http(s) address, or a data: URI with base64.
            decoder_layers: Decoder layers to run; fewer are faster and less accurate. Default: all.
            threshold: Score that a detection must exceed, 0 to 1. Default: 0.5.
            classes: Only these classes, by their English names in the singular. Default: all.
            max_detections: At most so many, the best. Default: all.
        """

        def work() -> tuple[gr.FileData, str]:
            lowest = check_threshold(DEFAULT_THRESHOLD if threshold is None else threshold)
            client, engine = visitor(), service.engine
            content = _content(image, client, service)
            picture = engine.open(client, content).result()
            detector = service.checkpoints.detector()
            layers = detector.check_depth(decoder_layers)
            wanted = _classes(classes, detector.class_names)
            _check_count(max_detections)
            params = Params(detector.checkpoint, layers, every_layer=False)
            predictions = engine.submit(client, picture, params, detector=detector).result()
            selection = Selection(layers, lowest, wanted, max_detections)
            drawn = export.annotate(picture, predictions.select(*selection))
            kept = results.keep(content, predictions, client, owner())
            file = results.add_file(kept, "detections.jpg", jpeg(drawn, SHOWN_SIZE))
            answer = json.dumps(predictions.to_json(*selection))
            return gr.FileData(path=str(file), mime_type="image/jpeg"), answer

        return await run_for_visitor(service.engine, work)

    gr.api(detect_objects, api_name=TOOL, queue=False)


def publish_tools(page: gr.Blocks) -> None:
    """Of all the endpoints of a launched page, offer assistants only the tools, with what Gradio
    does not say of them, and without the addresses of files that it adds to their answers."""
    from mcp import types

    gradio_server = page.mcp_server_obj
    if gradio_server is None:
        return
    gradio_server.tool_to_endpoint = {
        name: endpoint
        for name, endpoint in gradio_server.tool_to_endpoint.items()
        if endpoint == f"/{TOOL}"
    }
    server = gradio_server.mcp_server
    server.version = __version__
    list_tools = server.request_handlers[types.ListToolsRequest]
    call_tool = server.request_handlers[types.CallToolRequest]

    async def list_annotated(request: types.ListToolsRequest) -> types.ServerResult:
        result: Any = await list_tools(request)
        for tool in result.root.tools:
            tool.annotations = types.ToolAnnotations(
                title="Detect objects",
                readOnlyHint=True,
                destructiveHint=False,
                idempotentHint=True,
                openWorldHint=True,  # it fetches pictures
            )
        return result

    async def call_without_paths(request: types.CallToolRequest) -> types.ServerResult:
        result: Any = await call_tool(request)
        result.root.content = [
            part
            for part in result.root.content
            if not (isinstance(part, types.TextContent) and part.text.startswith(_FILE_ADDRESS))
        ]
        return result

    server.request_handlers[types.ListToolsRequest] = list_annotated
    server.request_handlers[types.CallToolRequest] = call_without_paths


def _content(image: str, client: str, service: Service) -> bytes:
    if not isinstance(image, str):
        raise BadInput("`image` is an http(s) address or a data: URI.")
    if image[:5].lower() == "data:":
        return sources.read_data_uri(image)
    return service.engine.fetch(client, image).result()


def _classes(classes: object, known: tuple[str, ...]) -> list[str] | None:
    """The classes by their own names. Raises BadInput for what an assistant made up."""
    if classes is None:
        return None
    by_name = {name.lower(): name for name in known}
    names = split_names(classes)
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        wanted = [by_name.get(name.strip().lower()) for name in names]
        if all(wanted):
            return [name for name in wanted if name]
    raise BadInput(f"`classes` is a list of some of these: {', '.join(known)}.")


def _check_count(max_detections: object) -> None:
    """Raises BadInput for what is no number from 1."""
    if max_detections is not None and not (is_whole(max_detections) and max_detections >= 1):
        raise BadInput("`max_detections` is a whole number from 1.")
