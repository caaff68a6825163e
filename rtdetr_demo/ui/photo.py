"""The photo tab, and `/detect` of the Gradio API."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image, ImageOps
from pydantic import Field, StrictFloat, StrictInt

from .. import export, sources
from ..checkpoints import CATALOGUE, describe
from ..errors import BadInput, DemoError, TooLarge
from ..palette import class_color, text_color
from ..predictions import Predictions, Selection, check_threshold
from ..results import Results
from ..service import Service
from .answers import Request, Shaped, answering
from .assets import read, script

EXAMPLES = Path(__file__).parents[2] / "examples"
DISPLAY_SIZE = 1920
"""Longest side, in pixels, of the picture that the page shows."""


class Checkpoint(Request):
    checkpoint: Annotated[str, Field(max_length=500)] = ""


class Detect(Checkpoint, Shaped):
    path: str | None = None
    url: str | None = None
    example: str | None = None
    result: str | None = None


class Download(Request):
    result: str
    form: Literal["png", "json", "csv", "coco", "yolo"]
    decoder_layers: StrictInt
    threshold: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)]
    classes: list[str] | None = None


def photo_tab(service: Service, results: Results) -> None:
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


def _server_functions(service: Service, results: Results) -> list[Callable[[Any], dict]]:
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
        latency = service.store.latency(checkpoint)
        return {
            "checkpoint": checkpoint,
            "serving": service.active,
            "wanted": service.wanted,
            "missing": service.active != service.wanted,
            "notice": service.notice,
            "searching": service.searching,
            "threshold": describe(checkpoint).threshold,
            "here": service.store.is_here(checkpoint),
            "measuring": service.store.measuring(checkpoint),
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


def picture_of(request: Detect, service: Service, results: Results) -> bytes:
    """The bytes of the picture that a request names."""
    if request.url is not None:
        return sources.fetch(request.url, service.settings.allowed_hosts)
    if request.result is not None:
        return results.get(request.result).original.read_bytes()
    if request.example is not None:
        return inside(EXAMPLES, EXAMPLES / request.example).read_bytes()
    if request.path is not None:
        uploaded = inside(Path(get_upload_folder()), Path(request.path))
        if uploaded.stat().st_size > sources.MAX_BYTES:
            raise TooLarge(
                f"This file is over {sources.MAX_BYTES // 2**20} MB. Send a smaller one."
            )
        return uploaded.read_bytes()
    raise BadInput("No picture came along. Upload one, paste one, or give its address.")


def inside(folder: Path, path: Path) -> Path:
    """The file, if it lies in the folder; links and dots are followed before judging."""
    try:
        resolved = path.resolve()
        if resolved.is_relative_to(folder.resolve()) and resolved.is_file():
            return resolved
    except (OSError, ValueError, RuntimeError):
        pass
    raise BadInput("This picture is not here (any more). Upload it again.")


def colors(predictions: Predictions) -> dict[str, list[str]]:
    """For each class its colour and that of text on it."""
    return {
        name: [class_color(name), text_color(class_color(name))] for name in predictions.class_names
    }


def data_url(image: Image.Image, longest: int) -> str:
    """A JPEG of the picture, at most `longest` pixels long, to stand in a page."""
    shown = image.copy() if max(image.size) <= longest else ImageOps.contain(image, (longest,) * 2)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


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


def _api(service: Service, results: Results) -> Callable[..., dict]:
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
