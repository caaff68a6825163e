"""`/detect` of the Gradio API, for `gradio_client`."""

import gradio as gr

from ..predictions import check_threshold
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .pictures import picture_of, sent_file
from .rpc import DEFAULT_THRESHOLD, run_queued


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
            picture = service.pictures.read(picture_of(sent_file(image), service, results))
            predictions = service.detect(picture, checkpoint, decoder_layers)
            return predictions.to_json(predictions.layers, lowest)

        return await run_queued(service.queue, work)

    # As many at once as come: they wait in our own line, where visitors take turns.
    gr.api(detect, api_name="detect", concurrency_limit=None)
