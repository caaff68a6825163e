"""What the page may ask of the server: `lib/server_detector.js` is the other end."""

import secrets
from collections.abc import Callable
from typing import Any

from PIL import Image

from ..checkpoints.catalog import describe
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .device_files import DeviceFiles
from .inside import inspect_function
from .pictures import DISPLAY_SIZE, Checkpoint, Detect, colors, data_url, picture_of
from .rpc import Request, queue_position_function, server_function, visitor


class ResultRequest(Request):
    """A result of ours, by the name that it was given."""

    result: str


def server_functions(
    service: Service, results: ResultStore, device_files: DeviceFiles
) -> list[Callable[[Any], dict]]:
    """What the page's JavaScript may call, by these names: `detect`, `status`, `download`,
    `cancel_download`, `original`, `inspect`, `ahead` and, where visitors' devices may detect,
    `device_model`. Each takes and gives JSON (see `rpc.server_function`)."""

    @server_function(Detect, service.queue)
    def detect(request: Detect) -> dict:
        """Detections of every layer in a picture, which is kept for what is asked of it later."""
        content = picture_of(request, service, results)
        image = service.pictures.read(content)
        predictions = service.detect(image, request.checkpoint, **request.shape)
        if request.result is None:
            result = results.keep(content, predictions, visitor())
        else:
            result = results.replace(request.result, predictions)
        detector = service.detector(predictions.checkpoint)
        return {
            **predictions.for_browser(),
            "id": result.id,
            "colors": colors(predictions.class_names),
            "picture": data_url(image, DISPLAY_SIZE),
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

    @server_function(Checkpoint, service.queue)
    def download(request: Checkpoint) -> dict:
        """Begin to fetch a checkpoint from the hub; `status` tells how far it is."""
        service.try_hub(service.check(request.checkpoint or service.wanted), visitor())
        return {}

    @server_function(Checkpoint)
    def cancel_download(request: Checkpoint) -> dict:
        """Stop fetching it, for whoever asked for it."""
        service.cancel_download(request.checkpoint, visitor())
        return {}

    @server_function(ResultRequest, service.queue)
    def original(request: ResultRequest) -> dict:
        """The address of a result's picture at its full size, upright, as a browser opens it."""
        result = results.get(request.result)
        file = result.folder / "upright.jpg"
        if not file.exists():
            image: Image.Image = service.pictures.read(result.original.read_bytes())
            service.scratch.check_room(result.original.stat().st_size)
            part = file.with_name(f"{secrets.token_hex(8)}.part")
            image.save(part, "JPEG", quality=95)
            part.replace(file)  # never seen half written
        return {"url": f"gradio_api/file={file}"}

    @server_function(Checkpoint, service.queue)
    def device_model(request: Checkpoint) -> dict:
        """Where a checkpoint's files for the visitor's own device lie."""
        return device_files.model_for(service.detector(request.checkpoint))

    always = [
        detect,
        status,
        download,
        cancel_download,
        original,
        inspect_function(service, results),
        queue_position_function(service.queue),
    ]
    return always if service.settings.device_runtime == "off" else [*always, device_model]
