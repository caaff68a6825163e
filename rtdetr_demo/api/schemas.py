"""What every way of asking has in common: the settings, and the answer's form."""

import json
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_PICTURES = 16
"""In one request."""

MAX_FIELDS = 100
"""In one object."""

MAX_SCHEMA = 32_768
"""Characters of a client's JSON schema."""


class Form(BaseModel):
    """The base of what a client may send; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, given: Any) -> Any:
        # Each unknown field becomes an error of its own, and a body can hold a million.
        if isinstance(given, dict) and len(given) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "There are too many fields")
        return given


class OpenForm(Form):
    """The base of what clients of OpenAI's API may send; unknown fields are kept apart, in
    `model_extra`, and have no effect."""

    model_config = ConfigDict(extra="allow")


def split_names(names: Any) -> Any:
    """The names in a string with commas; anything else as it is."""
    if isinstance(names, str):
        return [name.strip() for name in names.split(",") if name.strip()]
    return names


_NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1000}

ClassNames = Annotated[
    list[str],
    Field(min_length=1, max_length=1000),
    BeforeValidator(split_names),
    WithJsonSchema({"anyOf": [_NAMES, {"type": "string", "pattern": "[^, ]"}]}),
]
"""Names of classes: a list, or a string with commas."""

Share = (
    Annotated[StrictFloat, Field(ge=0, le=1)] | Annotated[StrictInt, Field(ge=0, le=1)]
)  # a bound on the union would not be one of the JSON schema


class Settings(Form):
    """What may be set for a request; what is left out is as the server has it."""

    decoder_layers: Annotated[StrictInt, Field(ge=1, le=64)] | None = Field(
        None, description="Decoder layers to run: 1 to the checkpoint's depth (default: all)."
    )
    threshold: Share | None = Field(
        None, description="Score that a detection must exceed (default: 0.5)."
    )
    classes: ClassNames | None = Field(
        None,
        description="Only detections of these classes, by name in any case: a list, or a string "
        "with commas (default: all).",
    )
    max_detections: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = Field(
        None, description="At most so many detections a picture, the best (default: all)."
    )

    def given(self) -> dict[str, Any]:
        """Those that were set."""
        return {
            name: getattr(self, name)
            for name in Settings.model_fields
            if getattr(self, name) is not None
        }


PIXELS = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGOsr69nwAaY"
    "sIoOWgkALcUBjTy/9hgAAAAASUVORK5CYII="
)
"""The smallest request of the documentation: a grey picture of 8x8 pixels."""


def example(**body: Any) -> ConfigDict:
    """A body for the documentation, which works as it stands."""
    return ConfigDict(json_schema_extra={"examples": [{"model": "bundled", **body}]})


class ImageUrl(OpenForm):
    url: str = Field(description="An http(s) address, or a data: URI with base64.")
    detail: str | None = Field(
        None, description="Accepted and without effect: the model has one input size."
    )


class JsonSchema(OpenForm):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: StrictBool | None = None

    @field_validator("schema_")
    @classmethod
    def _is_small(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if problem := schema_problem(schema):
            raise PydanticCustomError("schema", problem)
        return schema


def schema_problem(schema: dict[str, Any] | None) -> str | None:
    """Why a client's JSON schema cannot be looked at; None where it can."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (ValueError, RecursionError):
        return "This JSON schema cannot be used"
    return f"Schemas end at {MAX_SCHEMA} characters here" if size > MAX_SCHEMA else None


# --- Answers --------------------------------------------------------------------------------------


class Size(BaseModel):
    width: int
    height: int


class Box(BaseModel):
    """Corners in whole pixels of the upright picture; they may lie a little outside it."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Detected(BaseModel):
    label: str
    score: float
    box: Box


class Timings(BaseModel):
    """Milliseconds from a decoded picture to its detections."""

    preprocess: float
    model: float
    postprocess: float
    total: float


class Picture(BaseModel):
    """The form that every surface shares: what was found in one picture, best first."""

    checkpoint: str
    decoder_layers: int
    image: Size
    detections: list[Detected]
    timing_ms: Timings
    note: str | None = Field(
        None, description="What to know about the picture; absent where there is nothing to say."
    )


class Applied(BaseModel):
    """The settings as they were understood, whether from fields or from text."""

    decoder_layers: int
    threshold: float
    classes: list[str] | None
    max_detections: int | None


class Pictures(BaseModel):
    """One entry per picture, in the order of asking."""

    settings: Applied
    results: list[Picture]
