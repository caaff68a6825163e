"""Video: a clip goes in, a tracked and annotated clip comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from PIL import Image
from pydantic import Field, StrictFloat, StrictInt

from ..errors import TooLarge
from ..media.colors import class_color, text_color
from ..serving.jobs import Job
from ..serving.service import Service
from ..video.options import FILES, Limits, Options, Progress
from ..video.runner import process
from .pictures import SAMPLE_CLIP, data_url, inside
from .rpc import JobRequest, ShapedRequest, cancel_function, owner, server_function, visitor

if TYPE_CHECKING:
    from ..video.options import Summary

PREVIEW_SIZE = 640
"""Longest side of the preview, in pixels."""


class Start(ShapedRequest):
    path: str | None = None
    """An upload; none: the example clip."""
    checkpoint: Annotated[str, Field(max_length=500)] = ""
    decoder_layers: StrictInt
    threshold: StrictFloat | StrictInt
    classes: list[str] | None = None
    stride: StrictInt = 1
    longest: StrictInt | None = None
    line: StrictFloat | None = None


def video_functions(service: Service) -> list[Callable[[Any], dict]]:
    """The server functions `video`, `video_state` and `cancel_video`."""
    settings = service.settings
    limits = Limits(settings.video_minutes * 60, int(settings.video_megapixels * 1e6))
    jobs = service.make_jobs("videos", max_bytes=service.store_bytes)

    @server_function(Start, service.engine)
    def video(request: Start) -> dict:
        source = SAMPLE_CLIP
        if request.path is not None:
            source = inside(service.scratch.uploads, Path(request.path))
        if source.stat().st_size > service.settings.video_mb * 2**20:
            raise TooLarge(
                f"This video is over {service.settings.video_mb} MB. Send a smaller one."
            )
        detector = service.checkpoints.detector(request.checkpoint)
        options = Options(
            decoder_layers=detector.check_depth(request.decoder_layers),
            threshold=request.threshold,
            classes=None if request.classes is None else tuple(request.classes),
            stride=request.stride,
            longest=request.longest,
            line=request.line,
            **request.shape,
        ).check()
        detector.check_queries(request.queries)
        detector.check_size(request.size)

        address = visitor()
        frames = service.frame_detector(f"video {address}", detector, options)

        def work(job: Job) -> "Summary":
            def tell(progress: Progress) -> None:
                job.progress = progress

            try:
                return process(source, job.folder, frames, options, tell, job.stop, limits)
            finally:
                if job.progress is not None:
                    job.progress.preview = None  # nobody looks at it any more

        return {"id": jobs.start(work, address, owner()).id}

    @server_function(JobRequest)
    def video_state(request: JobRequest) -> dict:
        job = jobs.get(request.id, owner())
        if job.error:
            return {"error": job.error}
        answer: dict[str, Any] = {"running": job.running}
        if progress := job.progress:
            answer |= {
                "done": progress.done,
                "total": progress.total,
                "fps": round(progress.fps, 2),
                "left": progress.left and round(progress.left),
            }
            if job.running and progress.preview is not None:
                answer["preview"] = data_url(Image.fromarray(progress.preview), PREVIEW_SIZE)
        if summary := job.result:
            labels = sorted({label for second in summary.seen for label in second})
            answer |= {
                "frames": summary.frames,
                "cancelled": summary.cancelled,
                "seen": [[second.get(label, 0) for label in labels] for second in summary.seen],
                "labels": labels,
                "colors": [[color := class_color(label), text_color(color)] for label in labels],
                "crossed": [summary.crossed_down, summary.crossed_up],
                "notes": summary.notes,
                "files": {name: f"gradio_api/file={job.folder / name}" for name in FILES},
            }
        return answer

    return [video, video_state, cancel_function(jobs, "cancel_video")]
