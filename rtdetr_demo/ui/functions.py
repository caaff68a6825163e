"""What the page may ask of the server: `lib/server_detector.js` is the other end."""

from collections.abc import Callable
from typing import Any

from PIL import Image

from ..checkpoints.catalog import describe
from ..serving.result_store import Result, ResultStore
from ..serving.service import Service
from .device_files import DeviceFiles
from .inside import inspect_function
from .pictures import (
    DISPLAY_SIZE,
    Checkpoint,
    Detect,
    colors,
    jpeg,
    opens_in_browsers,
    source_of,
    uploaded_file,
)
from .rpc import Request, owner, queue_position_function, server_function, visitor


class ResultRequest(Request):
    """A result of ours, by the name that it was given."""

    result: str


def server_functions(
    service: Service, results: ResultStore, device_files: DeviceFiles
) -> list[Callable[[Any], dict]]:
    """What the page's JavaScript may call, by these names: `detect`, `status`, `download`,
    `cancel_download`, `original`, `inspect`, `ahead` and, where visitors' devices may detect,
    `device_model`. Each takes and gives JSON (see `rpc.server_function`)."""

    engine, checkpoints = service.engine, service.checkpoints

    @server_function(Detect, engine)
    def detect(request: Detect) -> dict:
        """Detections of every layer in a picture, which is kept for later requests about it."""
        client, ticket = visitor(), request.ticket or ""
        source = source_of(request, service, results)
        content = engine.fetch(client, source).result() if isinstance(source, str) else source
        image = engine.open(client, content, ticket).result()
        detector = checkpoints.detector(request.checkpoint)
        params = request.params(detector.checkpoint)
        pending = engine.submit(client, image, params, ticket, detector)
        predictions = pending.result()
        if request.result is None:
            file = None if request.path is None else uploaded_file(request.path, service)
            result = results.keep(content if file is None else file, predictions, client, owner())
        else:
            result = results.replace(request.result, predictions, owner())
        return {
            **predictions.for_browser(),
            "id": result.id,
            "colors": colors(predictions.class_names),
            "picture": shown_picture(results, request, result, content, image),
            "note": image.info.get("note"),
            "runtime": detector.runtime(**request.shape).name,
            "limits": {
                "queries": detector.query_range,
                "size": detector.size_range,
                "own": {"queries": detector.queries, "size": max(detector.size)},
            },
        }

    @server_function(Checkpoint)
    def status(request: Checkpoint) -> dict:
        """Which checkpoint serves, what it costs at every depth, and what is on its way."""
        checkpoint = checkpoints.check(request.checkpoint)
        store = checkpoints.store
        download = store.downloading(checkpoint) or store.downloading(checkpoints.wanted)
        latency = service.latencies.latency(checkpoint)
        return {
            "checkpoint": checkpoint,
            "serving": checkpoints.active,
            "wanted": checkpoints.wanted,
            "missing": checkpoints.active != checkpoints.wanted,
            "notice": checkpoints.notice,
            "searching": checkpoints.searching,
            "threshold": describe(checkpoint).threshold,
            "here": store.is_here(checkpoint),
            "measuring": store.is_loading(checkpoint) or service.latencies.measuring(checkpoint),
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

    @server_function(Checkpoint, engine)
    def download(request: Checkpoint) -> dict:
        """Begin to fetch a checkpoint from the hub; `status` tells how far it is."""
        checkpoint = checkpoints.check(request.checkpoint or checkpoints.wanted)
        checkpoints.download(checkpoint, visitor())
        return {}

    @server_function(Checkpoint)
    def cancel_download(request: Checkpoint) -> dict:
        """Stop fetching it, for whoever asked for it."""
        checkpoints.cancel_download(request.checkpoint, visitor())
        return {}

    @server_function(ResultRequest, engine)
    def original(request: ResultRequest) -> dict:
        """The address of a result's picture at its full size, upright, as a browser opens it."""
        result = results.get(request.result, owner())
        file = result.folder / "upright.jpg"
        if not file.exists():
            image: Image.Image = engine.open(visitor(), result.original.read_bytes()).result()
            results.add_file(result, file.name, jpeg(image, max(image.size), quality=95))
        return {"url": f"gradio_api/file={file}"}

    @server_function(Checkpoint, engine)
    def device_model(request: Checkpoint) -> dict:
        """Where a checkpoint's files for the visitor's own device lie."""
        return device_files.model_for(checkpoints.detector(request.checkpoint))

    always = [
        detect,
        status,
        download,
        cancel_download,
        original,
        inspect_function(service, results),
        queue_position_function(engine),
    ]
    return always if service.settings.device_runtime == "off" else [*always, device_model]


def shown_picture(
    results: ResultStore, request: Detect, result: Result, content: bytes, image: Image.Image
) -> str | None:
    """The address of a picture that the browser cannot show by itself; None for one that it can,
    or has."""
    if request.result is not None or request.example is not None:
        return None
    if request.path is not None and opens_in_browsers(content):
        return None
    file = results.add_file(result, "shown.jpg", jpeg(image, DISPLAY_SIZE))
    return f"gradio_api/file={file}"
