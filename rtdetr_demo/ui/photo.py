"""The photo tab, and `/detect` of the Gradio API."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import gradio as gr
from PIL import Image
from pydantic import Field, StrictFloat, StrictInt

from ..checkpoints.catalog import CATALOGUE, describe
from ..errors import BadInput, DemoError
from ..media import exporters as export
from ..media import images as sources
from ..predictions import Selection, check_threshold
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .assets import read, script
from .pictures import DISPLAY_SIZE, EXAMPLES, Checkpoint, Detect, colors, data_url, picture_of
from .rpc import Request, answering


class Download(Request):
    result: str
    form: Literal["png", "json", "csv", "coco", "yolo"]
    decoder_layers: StrictInt
    threshold: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)]
    classes: list[str] | None = None


def photo_tab(service: Service, results: ResultStore) -> None:
    """Lay the tab out inside the current Blocks."""
    gr.HTML(
        value=_config(service),
        html_template=read("photo.html"),
        js_on_load=script(
            "ask.js", "shape.js", "predictions.js", "stage.js", "camera.js", "photo.js"
        ),
        server_functions=_server_functions(service, results),
        apply_default_css=False,
        elem_id="photo",
    )
    gr.api(_api(service, results), api_name="detect")


def _server_functions(service: Service, results: ResultStore) -> list[Callable[[Any], dict]]:
    """What the page may ask of us."""

    @answering(Detect)
    def detect(request: Detect) -> dict:
        content = picture_of(request, service, results)
        image = sources.read_picture(content)
        predictions = service.detect(image, request.checkpoint, **request.shape)
        if request.result is None:
            result = results.keep(content, predictions)
        else:
            result = results.replace(request.result, predictions)
        return {
            **predictions.for_browser(),
            "id": result.id,
            "colors": colors(predictions),
            "picture": data_url(image, DISPLAY_SIZE),
        }

    @answering(Checkpoint)
    def status(request: Checkpoint) -> dict:
        checkpoint = service.check(request.checkpoint or service.active)
        download = service.store.downloading(checkpoint) or service.store.downloading(
            service.wanted
        )
        latency = service.latencies.latency(checkpoint)
        return {
            "checkpoint": checkpoint,
            "serving": service.active,
            "wanted": service.wanted,
            "missing": service.active != service.wanted,
            "notice": service.notice,
            "searching": service.searching,
            "threshold": describe(checkpoint).threshold,
            "here": service.store.is_here(checkpoint),
            "measuring": service.loading(checkpoint) or service.latencies.measuring(checkpoint),
            "latency": latency and latency.to_json(),
            "download": download
            and {
                "checkpoint": download.checkpoint,
                "running": download.running,
                "done": download.done_bytes,
                "total": download.total_bytes,
                "error": str(download.error or ""),
            },
        }

    @answering(Checkpoint)
    def download(request: Checkpoint) -> dict:
        service.try_hub(service.check(request.checkpoint or service.wanted))
        return {}

    @answering(Checkpoint)
    def cancel(request: Checkpoint) -> dict:
        if running := service.store.downloading(service.check(request.checkpoint)):
            running.cancel()
        return {}

    @answering(Download)
    def download_result(request: Download) -> dict:
        result = results.get(request.result)
        if not 1 <= request.decoder_layers <= result.predictions.layers:
            raise BadInput(f"Choose a layer from 1 to {result.predictions.layers}.")
        selection = Selection(request.decoder_layers, request.threshold, request.classes)
        name = export.FORMS[request.form]

        def picture() -> Image.Image:
            return sources.read_picture(result.original)

        predictions = result.predictions
        if request.form == "json" and request.decoder_layers < predictions.layers:
            # The JSON tells how long its depth takes, so that depth must have run.
            predictions = service.detect(picture(), predictions.checkpoint, request.decoder_layers)
        content = export.render(request.form, predictions, selection, picture)
        (result.folder / name).write_bytes(content)
        return {"name": name, "url": f"gradio_api/file={result.folder / name}"}

    return [detect, status, download, cancel, download_result]


def _config(service: Service) -> dict:
    """What the page needs to know before the first question."""
    return {
        "checkpoints": [checkpoint.to_json() for checkpoint in CATALOGUE],
        "any_checkpoint": service.settings.any_checkpoint,
        "max_bytes": sources.MAX_BYTES,
        "examples": [
            {
                "name": path.name,
                "title": path.stem.replace("-", " "),
                "thumbnail": data_url(Image.open(path).convert("RGB"), 160),
            }
            for path in sorted(EXAMPLES.glob("*.jpg"))
        ],
    }


def _sent_file(image: Any) -> Detect:
    """A file as gradio_client sends it: uploaded (a path among the uploads) or by address."""
    path = image.get("path") if isinstance(image, dict) else image
    if not isinstance(path, str):
        raise BadInput("Send the picture as a file: with gradio_client, as handle_file(...).")
    return Detect(url=path) if path.startswith(("http://", "https://")) else Detect(path=path)


def _api(service: Service, results: ResultStore) -> Callable[..., dict]:
    def detect(
        image: gr.FileData | dict,
        checkpoint: str | None = None,
        decoder_layers: int | None = None,
        threshold: float = 0.5,
    ) -> dict:
        """Detect objects in a picture.

        Parameters:
            image: The picture: JPEG, PNG, WebP, GIF, TIFF or HEIC.
            checkpoint: A checkpoint of the picker; the one that serves by default.
            decoder_layers: Decoder layers to run, from 1 to the checkpoint's depth (default: all).
            threshold: Score that a detection must exceed, 0 to 1.
        Returns:
            The checkpoint, the layers that ran, the picture's size, the detections in the form of
            transformers' object-detection pipeline, and the milliseconds that each stage took.
        """
        try:
            lowest = check_threshold(threshold)
            picture = sources.read_picture(picture_of(_sent_file(image), service, results))
            predictions = service.detect(picture, checkpoint, decoder_layers)
        except DemoError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return predictions.to_json(predictions.layers, lowest)

    return detect
