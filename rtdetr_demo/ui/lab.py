"""The speed lab: what depth, queries and input size cost here, and two checkpoints side by side."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from PIL import Image
from pydantic import Field, StrictFloat, StrictInt

from ..engine.requests import Params
from ..errors import BadInput
from ..serving.jobs import Job
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .pictures import DISPLAY_SIZE, Detect, colors, data_url, source_of
from .rpc import JobRequest, Request, cancel_function, owner, server_function, visitor

if TYPE_CHECKING:
    from ..detector.detector import Detector
    from ..evaluation.benchmark import Report


class Subject(Request):
    """The picture: a result of the page's, or an example."""

    result: str | None = None
    example: str | None = None


class Measure(Subject):
    checkpoint: Annotated[str, Field(max_length=500)] = ""
    rounds: Annotated[StrictInt, Field(ge=3, le=100)] = 10
    threshold: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)] = 0.5
    shapes: bool = True
    pipeline: bool = False


class Compare(Subject):
    checkpoints: Annotated[
        list[Annotated[str, Field(max_length=500)]], Field(min_length=2, max_length=2)
    ]


def lab_functions(service: Service, results: ResultStore) -> list[Callable[[Any], dict]]:
    """The server functions `measure`, `measured`, `cancel_measure` and `compare` of the lab."""
    jobs = service.make_jobs("measurements", running=1)

    def open_subject(request: Subject) -> Image.Image:
        wanted = Detect(result=request.result, example=request.example)
        source = source_of(wanted, service, results)
        return service.engine.open(visitor(), source).result()

    @server_function(Measure, service.engine)
    def measure(request: Measure) -> dict:
        image = open_subject(request)
        detector = service.checkpoints.detector(request.checkpoint)
        # Only now: transformers must not be imported twice at once, and a load imports it.
        from ..evaluation.benchmark import Plan
        from ..evaluation.benchmark import measure as carry_out

        plan = Plan(
            layers=tuple(range(1, detector.depth + 1)),
            queries=_fewer_queries(detector) if request.shapes else (),
            sizes=_sizes(detector) if request.shapes else (),
            rounds=request.rounds,
            threshold=request.threshold,
            runtime=service.settings.runtime,
            pipeline=request.pipeline,
        )

        def work(job: Job) -> "Report":
            def tell(what: str, share: float) -> None:
                job.progress = {"what": what, "share": round(share, 3)}

            # Each timed pass waits until no visitor's request is under way.
            def execute(turn: Callable[[], Any]) -> Any:
                return service.engine.run_when_idle(turn, job.stop)

            return carry_out(detector, image, plan, tell, job.stop, execute)

        return {"id": jobs.start(work, visitor(), owner()).id}

    @server_function(JobRequest)
    def measured(request: JobRequest) -> dict:
        job = jobs.get(request.id, owner())
        if job.error:
            return {"error": job.error}
        return {
            "running": job.running,
            "progress": job.progress,
            "report": job.result and job.result.to_json(),
        }

    @server_function(Compare, service.engine)
    def compare(request: Compare) -> dict:
        image = open_subject(request)
        names = [service.checkpoints.check(name) for name in request.checkpoints]
        if names[0] == names[1]:
            raise BadInput("These are the same checkpoint. Choose two different ones.")
        client, ticket = visitor(), request.ticket or ""
        # Twice: the first pass after loading is not what the next ones take.
        for _ in range(2):
            pending = [service.engine.submit(client, image, Params(name), ticket) for name in names]
            both = [request.result() for request in pending]
        return {
            "sides": [{**one.for_browser(), "colors": colors(one.class_names)} for one in both],
            "picture": data_url(image, DISPLAY_SIZE),
        }

    return [measure, measured, cancel_function(jobs, "cancel_measure"), compare]


def _fewer_queries(detector: "Detector") -> tuple[int, ...]:
    """A third, two thirds and all of the checkpoint's queries: 100, 200, 300 of 300."""
    return tuple(max(detector.query_range[0], round(detector.queries * k / 3)) for k in (1, 2, 3))


def _sizes(detector: "Detector") -> tuple[int, ...]:
    """From half of the checkpoint's own size to all of it in four steps: 320, 416, 544, 640."""
    own = min(detector.size)
    steps = [
        max(detector.size_range[0], round(own * share / 32) * 32) for share in (0.5, 0.66, 0.84, 1)
    ]
    return tuple(dict.fromkeys(steps))
