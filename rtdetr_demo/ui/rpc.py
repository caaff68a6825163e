"""How the page's server functions answer: JSON in, JSON out, every refusal one sentence.

What arrives is whatever a browser, or someone posing as one, chose to send: each request is checked
against a pydantic model before anything is done with it.
"""

import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import gradio as gr
from gradio.context import LocalContext
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from ..api.visitors import visitor_of
from ..engine.engine import Engine
from ..engine.requests import Params
from ..errors import INTERNAL_ERROR, DemoError
from ..serving.jobs import Jobs

DEFAULT_THRESHOLD = 0.5
"""Of the endpoints of Gradio's API."""

log = logging.getLogger(__name__)


class Request(BaseModel):
    """The base of what a page may ask; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ticket: Annotated[str, Field(max_length=64)] | None = None
    """The page's own name for this request, by which it asks for its place in line."""


class ShapedRequest(Request):
    """A request for detections; `None`: the number of queries and the input size that the
    checkpoint has."""

    queries: StrictInt | None = None
    size: StrictInt | None = None

    @property
    def shape(self) -> dict[str, int | None]:
        return {"queries": self.queries, "size": self.size}

    def params(
        self, checkpoint: str, decoder_layers: int | None = None, every_layer: bool = True
    ) -> Params:
        """The engine's parameters for this request."""
        return Params(checkpoint or None, decoder_layers, self.queries, self.size, every_layer)


class QueuePositionRequest(Request):
    """A request of the page's that waits."""


class JobRequest(Request):
    """A job of ours, by the name that it was given."""

    id: str


R = TypeVar("R", bound=Request)
T = TypeVar("T")


def visitor() -> str:
    """The address of whoever called the function of the page that runs now."""
    request: Any = LocalContext.request.get(None)
    client = getattr(request, "client", None)
    return client.host if client else "unknown"


def owner() -> str:
    """The visitor whose results and jobs the function of the page that runs now may use."""
    request: Any = LocalContext.request.get(None)
    request = getattr(request, "request", request)  # `gradio.Request` wraps Starlette's
    return visitor_of(request.scope) if request else visitor_of({})


async def run_for_visitor(engine: Engine, work: Callable[[], T]) -> T:
    """Run blocking work for Gradio's API on the visitor's behalf; refusals become Gradio's."""
    try:
        return await engine.ask(visitor(), work)
    except DemoError as error:
        raise gr.Error(str(error), print_exception=False) from None


def server_function(
    form: type[R], engine: Engine | None = None
) -> Callable[[Callable[[R], dict]], Callable[[Any], Any]]:
    """Make a server function of one that takes a checked request; errors become `{"error"}`.

    With an `engine`, for functions that decode, load, fetch or detect, it counts as one of the
    visitor's pictures that are under way. Without one it runs at once.
    """

    def decorate(function: Callable[[R], dict]) -> Callable[[Any], Any]:
        def refusal(error: Exception) -> dict:
            if isinstance(error, ValidationError):
                return {"error": "The page sent something unexpected. Reload it and try again."}
            if isinstance(error, DemoError):
                return {"error": str(error)}
            log.error("%s failed", function.__name__, exc_info=error)
            return {"error": INTERNAL_ERROR}

        def answer(request: Any = None) -> dict:
            try:
                return function(form.model_validate(request))
            except Exception as error:
                return refusal(error)

        async def answer_in_turn(request: Any = None) -> dict:
            assert engine is not None
            try:
                checked = form.model_validate(request)
                return await engine.ask(visitor(), lambda: function(checked))
            except Exception as error:
                return refusal(error)

        made: Callable[[Any], Any] = answer_in_turn if engine else answer
        made.__name__, made.__doc__ = function.__name__, function.__doc__
        return made

    return decorate


def queue_position_function(engine: Engine) -> Callable[[Any], dict]:
    """The server function that tells how many are before a request that waits (None: it runs)."""

    @server_function(QueuePositionRequest)
    def ahead(request: QueuePositionRequest) -> dict:
        return {"ahead": engine.ahead(visitor(), request.ticket or "")}

    return ahead


def cancel_function(jobs: Jobs, name: str) -> Callable[[Any], dict]:
    """The server function of this name, which stops a job."""

    @server_function(JobRequest)
    def cancel(request: JobRequest) -> dict:
        jobs.get(request.id, owner()).stop.set()
        return {}

    cancel.__name__ = name
    return cancel
