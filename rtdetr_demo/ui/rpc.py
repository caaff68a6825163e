"""How the page's server functions answer: JSON in, JSON out, every refusal one sentence.

What arrives is whatever a browser, or someone posing as one, chose to send: each request is checked
against a pydantic model before anything is done with it.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, StrictInt, ValidationError

from ..errors import DemoError
from ..serving.jobs import Jobs

log = logging.getLogger(__name__)


class Request(BaseModel):
    """The base of what a page may ask; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Shaped(Request):
    """A request for detections; `None`: the number of queries and the input size that the
    checkpoint has."""

    queries: StrictInt | None = None
    size: StrictInt | None = None

    @property
    def shape(self) -> dict[str, int | None]:
        return {"queries": self.queries, "size": self.size}


class Which(Request):
    """A job of ours, by the name that it was given."""

    id: str


R = TypeVar("R", bound=Request)


def answering(form: type[R]) -> Callable[[Callable[[R], dict]], Callable[[Any], dict]]:
    """Make a server function of one that takes a checked request; errors become `{"error"}`."""

    def decorate(function: Callable[[R], dict]) -> Callable[[Any], dict]:
        @functools.wraps(function)
        def answer(request: Any = None) -> dict:
            try:
                return function(form.model_validate(request))
            except ValidationError:
                return {"error": "The page sent something unexpected. Reload it and try again."}
            except DemoError as error:
                return {"error": str(error)}
            except Exception:
                log.exception("%s failed", function.__name__)
                return {"error": "Something went wrong here. Try again; the log has the details."}

        # Gradio would read the wrapped function's signature and its types otherwise.
        del answer.__wrapped__
        return answer

    return decorate


def cancelling(jobs: Jobs) -> Callable[[Any], dict]:
    """The server function that stops a job."""

    @answering(Which)
    def cancel(request: Which) -> dict:
        jobs.get(request.id).stop.set()
        return {}

    return cancel
