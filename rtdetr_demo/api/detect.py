"""`POST /v1/detect`: pictures in as they are, the common form or an annotated picture out."""

import contextlib
import io
import json
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from ..media import exporters as export
from ..predictions import Predictions, Selection
from .dispatch import Dispatcher, Source, as_json
from .errors import Refusal, documented
from .schemas import (
    MAX_FIELDS,
    MAX_PICTURES,
    PIXELS,
    Picture,
    Pictures,
    Settings,
    example,
    split_names,
)


class DetectSettings(Settings):
    model: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="A checkpoint of GET /v1/models (default: the one that serves)."
    )


class DetectRequest(DetectSettings):
    model_config = example(image_url=[PIXELS], decoder_layers=3)

    image_url: str | Annotated[list[str], Field(min_length=1, max_length=MAX_PICTURES)] = Field(
        description="http(s) addresses or data: URIs; a list is answered with a list."
    )


_FILE_FIELDS = ("file", "files", "image", "images")
_JSON, _MULTIPART = "application/json", "multipart/form-data"
_DRAWN = {"image/png": "PNG", "image/webp": "WEBP"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def routes(dispatcher: Dispatcher) -> APIRouter:
    router = APIRouter(tags=["Detection"])

    @router.post(
        "/v1/detect",
        response_model=Picture | Pictures,
        responses={
            200: {
                "description": "One picture's detections; for several, `results` in their order; "
                "or the picture with its detections drawn, as `Accept` asks.",
                "content": dict.fromkeys(_DRAWN, _BINARY),
            },
            **documented(400, 401, 404, 406, 408, 413, 415, 422, 429, 500, 503),
        },
        summary="Detect objects in one or several pictures",
        openapi_extra={"parameters": _parameters(), "requestBody": _REQUEST_BODY},
    )
    async def detect(request: Request) -> Response:
        wanted = _wanted(request.headers.get("accept", ""))
        settings, sources, many = await _read(request)
        if wanted != _JSON and len(sources) > 1:
            raise Refusal(
                422, "One annotated picture is drawn at a time. Send one, or accept JSON.",
                "one_image_at_a_time",
            )  # fmt: skip
        render = as_json if wanted == _JSON else _drawing(_DRAWN[wanted])
        context = request.state.context
        async with dispatcher.submit(
            context, settings.model, sources, settings, render=render
        ) as accepted:
            answers = [await answer for answer in accepted.answers]
            if wanted != _JSON:
                return Response(answers[0], media_type=wanted)
            if many:
                return JSONResponse({"settings": accepted.settings(), "results": answers})
            return JSONResponse(answers[0])

    return router


async def _read(request: Request) -> tuple[DetectSettings, list[Source], bool]:
    """The settings, the pictures, and whether they came as several. Raises Refusal."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    query = _fields(request.query_params.multi_items())
    if kind == _JSON:
        body = _parsed(await request.body())
        if both := sorted(query.keys() & body.keys()):
            raise Refusal(
                400, f"`{both[0]}` is given twice: in the address and in the body.",
                "duplicate_parameter", both[0],
            )  # fmt: skip
        from_query = _checked(query)
        form = _validated(TypeAdapter(DetectRequest), body)
        settings: DetectSettings = form.model_copy(update=from_query.model_dump(exclude_none=True))
        many = isinstance(form.image_url, list)
        urls = form.image_url if isinstance(form.image_url, list) else [form.image_url]
        return settings, [Source(url, f"image_url.{i}") for i, url in enumerate(urls)], many
    if kind == _MULTIPART:
        form_data = await request.form(max_files=2 * MAX_PICTURES, max_fields=MAX_FIELDS)
        items = form_data.multi_items()
        files = [(name, part) for name, part in items if isinstance(part, UploadFile)]
        settings = _checked(_fields([*request.query_params.multi_items(), *_texts(items)]))
        for name, _ in files:
            if name not in _FILE_FIELDS:
                raise Refusal(
                    400, f"There is no field `{name[:60]}` for a file. Name it `file`.",
                    "unknown_parameter", name[:60],
                )  # fmt: skip
        sources = [Source(await part.read(), f"{name}.{i}") for i, (name, part) in enumerate(files)]
        if len(sources) > MAX_PICTURES:
            raise Refusal(400, f"One request takes {MAX_PICTURES} pictures.", "too_many_images")
        if not sources:
            raise Refusal(400, "`file` is missing.", "missing_required_parameter", "file")
        return settings, sources, len(sources) > 1
    if kind.startswith("image/") or kind == "application/octet-stream":
        return _checked(query), [Source(await request.body(), "body")], False
    raise Refusal(
        415,
        "Say what the body is: Content-Type: image/jpeg (or another image type) for a picture "
        "itself, multipart/form-data for files, application/json for addresses.",
        "unsupported_content_type",
    )


def _texts(items: list[tuple[str, UploadFile | str]]) -> list[tuple[str, str]]:
    return [(name, part) for name, part in items if isinstance(part, str)]


def _fields(items: list[tuple[str, str]]) -> dict[str, Any]:
    """Fields as text; `classes` may come several times, or with commas. Raises Refusal."""
    fields: dict[str, Any] = {}
    for name, value in items:
        if name == "classes":
            fields.setdefault("classes", []).extend(split_names(value))
        elif name in fields:
            raise Refusal(400, f"`{name[:60]}` is given twice.", "duplicate_parameter", name[:60])
        else:
            fields[name] = value
    return fields


def _checked(fields: dict[str, Any]) -> DetectSettings:
    for name, kind in [("decoder_layers", int), ("threshold", float), ("max_detections", int)]:
        if name in fields:
            with contextlib.suppress(ValueError):  # what is no number is refused below
                fields[name] = kind(fields[name])
    try:
        return DetectSettings.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors(), body=fields) from None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(parsed, dict):
        raise Refusal(400, "The body must be a JSON object.", "invalid_json")
    return parsed


def _validated(form: TypeAdapter[DetectRequest], body: dict[str, Any]) -> DetectRequest:
    try:
        return form.validate_python(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(), body=body) from None


def _wanted(accept: str) -> str:
    """The media type to answer with: the one that an `Accept` header ranks highest, JSON in a tie.

    Raises Refusal (406) where it takes none of ours.
    """
    if not accept.strip():
        return _JSON
    best = parse_accept_header(accept, MIMEAccept).best_match([_JSON, *_DRAWN])
    if best is None:
        raise Refusal(
            406, "Answers are application/json, image/png or image/webp: accept one of them.",
            "not_acceptable",
        )  # fmt: skip
    return best


def _drawing(form: str) -> Any:
    def draw(image: Image.Image, predictions: Predictions, selection: Selection) -> bytes:
        if form == "WEBP" and max(image.size) > 16383:
            raise Refusal(422, "WebP ends at 16383 pixels a side. Accept image/png instead.")
        buffer = io.BytesIO()
        drawn = export.annotate(image, predictions.select(*selection))
        drawn.save(buffer, form, **({"compress_level": 3} if form == "PNG" else {"quality": 90}))
        return buffer.getvalue()

    return draw


def _parameters() -> list[dict[str, Any]]:
    """The settings as query parameters."""
    fields = DetectSettings.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field.get("description", ""),
            "schema": next(one for one in field["anyOf"] if one.get("type") != "null"),
            **({"style": "form", "explode": False} if name == "classes" else {}),
        }
        for name, field in fields.items()
    ]


def _multipart_schema() -> dict[str, Any]:
    fields = {one["name"]: one["schema"] for one in _parameters()}
    picture = {"type": "string", "format": "binary"}
    files = {
        "type": "array",
        "items": picture,
        "minItems": 1,
        "maxItems": MAX_PICTURES,
        "description": "The pictures; the name `image` is taken as well.",
    }
    return {
        "type": "object",
        "properties": {"file": files, **fields},
        "required": ["file"],
        "additionalProperties": False,
    }


_REQUEST_BODY = {
    "required": True,
    "description": "The picture itself (as application/octet-stream or image/...), files, or "
    "addresses.",
    "content": {
        _JSON: {"schema": DetectRequest.model_json_schema()},
        _MULTIPART: {"schema": _multipart_schema()},
        # Generators of clients know no wildcards, so that image/* is said in words.
        "application/octet-stream": _BINARY,
    },
}
