"""`POST /v1/inspect`: why the model found an object in a picture."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, StrictInt

from .dispatch import Dispatcher, Source
from .errors import documented
from .schemas import PIXELS, Form, Size, example


class InspectRequest(Form):
    model_config = example(image_url=PIXELS, object=1)

    image_url: str = Field(description="An http(s) address or a data: URI.")
    model: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="A checkpoint of GET /v1/models (default: the one that serves)."
    )
    object: Annotated[StrictInt, Field(ge=1, le=10_000)] = Field(
        1, description="Which, by its score after the last layer: 1 is the best."
    )


class ScoreMap(BaseModel):
    """The encoder's scores in one feature map, row by row."""

    width: int
    height: int
    scores: list[float]


class EnergyMap(BaseModel):
    """How strong one feature map is at each position, row by row."""

    width: int
    height: int
    values: list[float]


class Stage(BaseModel):
    """Every query after one stage: boxes, four numbers each, in pixels; scores; indices into
    `classes`."""

    boxes: list[float]
    scores: list[float]
    labels: list[int]


class Token(BaseModel):
    """The position of a feature map that a query was selected from."""

    map: int
    row: int
    column: int


class Rival(BaseModel):
    """Another query that claims the object: its scores and its IoU to the query at each stage, and
    the attention that passed each way in each layer."""

    query: int
    scores: list[float]
    iou: list[float]
    takes: list[float]
    gives: list[float]


class QueryReport(BaseModel):
    """One query. `classes`: its best three with their probabilities at each stage; `layers`: its
    sampling points in each layer."""

    query: int
    token: Token
    label: str
    classes: list[list[tuple[str, float]]]
    iou: list[float]
    heads: int
    points: int
    layers: list[list[float]]
    even_share: float
    rivals: list[Rival]


class InspectionReport(BaseModel):
    """What the model did with a picture, and with the query of one object."""

    checkpoint: str
    classes: list[str]
    image: Size
    decoder_layers: int
    maps: list[ScoreMap]
    chosen: list[int]
    film: list[Stage]
    energy: dict[str, list[EnergyMap]]
    queries: list[QueryReport]


def routes(dispatcher: Dispatcher) -> APIRouter:
    router = APIRouter(tags=["Detection"])

    @router.post(
        "/v1/inspect",
        response_model=InspectionReport,
        responses={
            200: {
                "description": "The encoder's scores (`maps`), the queries chosen, every query's "
                "box at each stage (`film`), the maps' `energy`, and for the object's query its "
                "token, classes, sampling points and rivals (`queries`). Under 1 MB.",
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
