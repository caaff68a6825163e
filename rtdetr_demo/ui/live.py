"""The live tab: one camera frame in, boxes out."""

import base64
import binascii
import time
from collections.abc import Callable
from typing import Annotated, Any

import gradio as gr
from pydantic import Field, StrictInt

from ..checkpoints.catalog import CATALOGUE
from ..errors import BadInput
from ..media import images as sources
from ..serving.scheduler import ViewerLimiter
from ..serving.service import Service
from .assets import read, script
from .pictures import colors
from .rpc import Shaped, answering, visitor

LOWEST_SCORE = 0.05
"""Candidates below this are not sent: the tab's threshold starts there."""


class Frame(Shaped):
    viewer: Annotated[str, Field(min_length=8, max_length=64)]
    image: Annotated[str, Field(max_length=3_000_000)]
    checkpoint: Annotated[str, Field(max_length=500)] = ""
    decoder_layers: StrictInt


def live_tab(service: Service) -> None:
    """Lay the tab out inside the current Blocks."""
    gr.HTML(
        value={"checkpoints": [checkpoint.to_json() for checkpoint in CATALOGUE]},
        html_template=read("live.html"),
        js_on_load=script(
            "ask.js", "shape.js", "predictions.js", "stage.js", "camera.js", "live.js"
        ),
        server_functions=[_frame(service, ViewerLimiter(service.settings.live_viewers))],
        apply_default_css=False,
        elem_id="live",
    )


def _frame(service: Service, viewers: ViewerLimiter) -> Callable[[Any], dict]:
    @answering(Frame, service.queue)
    def frame(request: Frame) -> dict:
        began = time.perf_counter()
        viewers.arrive(request.viewer, visitor())
        try:
            image = sources.read_frame(_decoded(request.image))
            detector = service.detector(request.checkpoint)
            depth = min(request.decoder_layers, detector.depth)
            asked = time.perf_counter()
            predictions = service.detect(
                image, request.checkpoint, depth, every_layer=False, **request.shape
            )
            waited = time.perf_counter() - asked - predictions.timing.total / 1000
            answer = predictions.for_browser([predictions.layers], LOWEST_SCORE)
        finally:
            viewers.leave(request.viewer)
        answer["depth"] = detector.depth
        answer["colors"] = colors(predictions)
        answer["timing_ms"] |= {
            "wait": round(max(waited, 0) * 1000, 2),
            "server": round((time.perf_counter() - began) * 1000, 2),
        }
        return answer

    return frame


def _decoded(image: str) -> bytes:
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("The camera's frame arrived damaged. The next one may not.") from None
