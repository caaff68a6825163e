"""What assistants may call: `detect_objects`, a tool of the Model Context Protocol (MCP)."""

import json

import gradio as gr

from ..engine.requests import Params
from ..errors import BadInput
from ..media import exporters as export
from ..media import images as sources
from ..predictions import Selection, check_threshold
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .pictures import jpeg
from .rpc import run_for_visitor, visitor

TOOL = "detect_objects"
SHOWN_SIZE = 1024
"""Longest side, in pixels, of the annotated picture: assistants take about a megabyte."""


def add_tools(service: Service, results: ResultStore) -> None:
    """Add them to the current Blocks."""

    async def detect_objects(
        image: str,
        decoder_layers: int | None = None,
        threshold: float = 0.5,
        classes: list[str] | None = None,
        max_detections: int | None = None,
    ) -> tuple[gr.FileData, str]:
        """Find objects in a picture with RT-DETR: what they are, how sure that is, and where.

        Gives the picture with the boxes drawn, and JSON: label, score (0 to 1) and box (xmin, ymin,
        xmax, ymax in pixels of the original picture) of each, best first.

        Parameters:
            image: The picture: an http(s) address, or a data: URI with base64.
            decoder_layers: Decoder layers to run; fewer are faster and less accurate. Default: all.
            threshold: Score that a detection must exceed, 0 to 1.
            classes: Only these classes, by their English names in the singular. Default: all.
            max_detections: At most so many, the best. Default: all.
        """

        def work() -> tuple[gr.FileData, str]:
            lowest = check_threshold(threshold)
            client, engine = visitor(), service.engine
            content = _content(image, client, service)
            picture = engine.open(client, content).result()
            detector = service.checkpoints.detector()
            layers = detector.check_depth(decoder_layers)
            _check(classes, max_detections, detector.class_names)
            params = Params(detector.checkpoint, layers, every_layer=False)
            predictions = engine.submit(client, picture, params, detector=detector).result()
            selection = Selection(layers, lowest, classes, max_detections)
            drawn = export.annotate(picture, predictions.select(*selection))
            kept = results.keep(content, predictions, client)
            file = results.add_file(kept, "detections.jpg", jpeg(drawn, SHOWN_SIZE))
            answer = json.dumps(predictions.to_json(*selection))
            return gr.FileData(path=str(file), mime_type="image/jpeg"), answer

        return await run_for_visitor(service.engine, work)

    gr.api(detect_objects, api_name=TOOL, queue=False)


def publish_tools(page: gr.Blocks) -> None:
    """Of all the endpoints of a launched page, offer assistants only the tools."""
    server = page.mcp_server_obj
    if server is not None:
        server.tool_to_endpoint = {
            name: endpoint
            for name, endpoint in server.tool_to_endpoint.items()
            if endpoint == f"/{TOOL}"
        }


def _content(image: str, client: str, service: Service) -> bytes:
    if not isinstance(image, str):
        raise BadInput("`image` is an http(s) address or a data: URI.")
    if image[:5].lower() == "data:":
        return sources.read_data_uri(image)
    return service.engine.fetch(client, image).result()


def _check(classes: object, max_detections: object, known: tuple[str, ...]) -> None:
    """Raises BadInput for what an assistant made up."""
    if classes is not None and not (
        isinstance(classes, list) and classes and all(name in known for name in classes)
    ):
        raise BadInput(f"`classes` is a list of some of these: {', '.join(known)}.")
    if max_detections is not None and not (isinstance(max_detections, int) and max_detections >= 1):
        raise BadInput("`max_detections` is a whole number from 1.")
