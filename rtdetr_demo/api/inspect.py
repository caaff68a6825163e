"""`POST /v1/inspect`: why the model found an object in a picture."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, StrictInt

from .dispatch import Dispatcher, Source
from .errors import documented
from .schemas import PIXELS, Form, example


class InspectRequest(Form):
    model_config = example(image_url=PIXELS, object=1)

    image_url: str = Field(description="An http(s) address or a data: URI.")
    model: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="A checkpoint of GET /v1/models (default: the one that serves)."
    )
    object: Annotated[StrictInt, Field(ge=1, le=10_000)] = Field(
        1, description="Which, by its score after the last layer: 1 is the best."
    )


def routes(dispatcher: Dispatcher) -> APIRouter:
    router = APIRouter(tags=["Detection"])

    @router.post(
        "/v1/inspect",
        responses={
            200: {
                "description": "The encoder's scores (`maps`), the queries chosen, every query's "
                "box at each stage (`film`), the maps' `energy`, and for the object's query its "
                "token, classes, sampling points and rivals (`queries`). Under 1 MB.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **documented(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
        },
        summary="Show why the model found an object",
    )
    async def inspect(request: Request, asked: InspectRequest) -> Response:
        source = Source(asked.image_url, "image_url")
        context = request.state.context
        answer: Any = await dispatcher.inspect(context, asked.model, source, asked.object)
        return JSONResponse(answer)

    return router
