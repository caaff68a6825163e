"""`/detect` of the Gradio API, for `gradio_client`."""

import gradio as gr

from ..engine.requests import Params
from ..predictions import check_threshold
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .pictures import sent_file, source_of
from .rpc import DEFAULT_THRESHOLD, run_for_visitor, visitor


def add_api(service: Service, results: ResultStore) -> None:
    """Add it to the current Blocks."""

    async def detect(
        image: gr.FileData | dict,
        checkpoint: str | None = None,
        decoder_layers: int | None = None,
        threshold: float | None = DEFAULT_THRESHOLD,
    ) -> dict:
        """Detect objects in a picture.

        Parameters:
            image: The picture: JPEG, PNG, WebP, GIF, TIFF or HEIC.
            checkpoint: A checkpoint of the picker; the one that serves by default.
            decoder_layers: Decoder layers to run, from 1 to the checkpoint's depth (default: all).
            threshold: Score that a detection must exceed, 0 to 1 (default: 0.5).
        Returns:
            The checkpoint, the layers that ran, the picture's size, the detections in the form of
            transformers' object-detection pipeline, and the milliseconds that each stage took.
        """

        def work() -> dict:
            lowest = check_threshold(DEFAULT_THRESHOLD if threshold is None else threshold)
            source = source_of(sent_file(image), service, results)
            params = Params(checkpoint, decoder_layers)
            predictions = service.engine.submit(visitor(), source, params).result()
            return predictions.to_json(predictions.layers, lowest)

        return await run_for_visitor(service.engine, work)

    # As many at once as come: visitors take turns in the engine.
    gr.api(detect, api_name="detect", concurrency_limit=None)
