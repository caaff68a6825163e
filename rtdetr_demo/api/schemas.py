"""What every way of asking has in common: the settings, and the answer's form."""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
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


class Settings(Form):
    """What may be set for a request; what is left out is as the server has it."""

    decoder_layers: Annotated[StrictInt, Field(ge=1, le=64)] | None = Field(
        None, description="Decoder layers to run: 1 to the checkpoint's depth (default: all)."
    )
    threshold: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)] | None = Field(
        None, description="Score that a detection must exceed (default: 0.5)."
    )
    classes: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="Only detections of these classes, by name (default: all)."
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


class ImageUrl(Form):
    url: str = Field(description="An http(s) address, or a data: URI with base64.")
    detail: Literal["auto", "low", "high", "original"] | None = Field(
        None, description="Accepted and without effect: the model has one input size."
    )


class JsonSchema(Form):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: StrictBool | None = None

    @field_validator("schema_")
    @classmethod
    def _is_small(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            size = len(json.dumps(schema, allow_nan=False))
        except (ValueError, RecursionError):
            raise PydanticCustomError("schema", "This JSON schema cannot be used") from None
        if size > MAX_SCHEMA:
            raise PydanticCustomError("schema", f"Schemas end at {MAX_SCHEMA} characters here")
        return schema


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
