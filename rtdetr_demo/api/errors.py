"""Every refusal in OpenAI's form, with the status that says whose move it is."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ..errors import INTERNAL_ERROR, Busy, CheckpointError, DemoError, TooManyRequests

log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """How every refusal looks."""

    error: ErrorDetail


class Refusal(DemoError):
    """A refusal of the API's own; `param` names the field of the request that is at fault."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ):
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


RETRY_SECONDS = 5
_TYPES = {401: "authentication_error", 429: "rate_limit_error", 503: "service_unavailable"}
_MEANINGS = {
    400: "The request has a field that is missing, unknown or out of range.",
    401: "The API key is missing or wrong, or the API is closed.",
    404: "There is no such checkpoint; GET /v1/models lists them.",
    405: "This address knows other methods.",
    406: "There is no such form of answer.",
    408: "The request's body came too slowly.",
    413: "The body or a picture is too large.",
    415: "The body's type, or that of a picture, is not one that we read.",
    422: "The request is well-formed, but a picture cannot be used, or this checkpoint cannot do "
    "what is asked.",
    429: "More is asked than is taken on; see `Retry-After`.",
    500: "The fault is ours.",
    503: "A checkpoint is loading, or the server is going down; see `Retry-After`.",
}


def documented(*statuses: int) -> dict[int | str, dict]:
    """OpenAPI `responses` entries for these statuses."""
    return {status: {"model": Error, "description": _MEANINGS[status]} for status in statuses}


def error_body(error: DemoError) -> dict:
    """The error as OpenAI writes it."""
    code, message = getattr(error, "code", None), str(error)
    if isinstance(error, CheckpointError):
        code = "model_not_found"
        message += " GET /v1/models lists all."
    elif isinstance(error, TooManyRequests):
        code = "rate_limit_exceeded"
    kind = _TYPES.get(error.status)
    return {
        "error": {
            "message": _clean(message),
            "type": kind or ("invalid_request_error" if error.status < 500 else "server_error"),
            "param": _clean(getattr(error, "param", None)),
            "code": code,
        }
    }


def _clean(text: str | None) -> str | None:
    """Half a surrogate pair, which JSON may carry, cannot be sent back."""
    return text and text.encode("utf-8", "replace").decode("utf-8")


def error_response(error: DemoError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The whole response."""
    headers = dict(headers or {})
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, Busy) or error.status == 503:
        headers["Retry-After"] = str(RETRY_SECONDS)
    elif error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.status, headers)


def internal_error() -> DemoError:
    """What a client hears of an error that we did not foresee."""
    return DemoError(INTERNAL_ERROR)


def handle_errors(app: FastAPI) -> None:
    """Have the app answer every error in the one form."""

    @app.exception_handler(DemoError)
    def refused(_: Request, error: DemoError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(from_validation(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    def http(_: Request, error: HTTPException) -> JSONResponse:
        message = {
            404: "There is no such address here. The addresses are listed at /docs.",
            405: "This address does not know that method. See /docs.",
            400: "The body could not be read. Send it as /docs describes.",
        }.get(error.status_code, str(error.detail))
        return error_response(Refusal(error.status_code, message), error.headers)

    @app.exception_handler(Exception)
    def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return error_response(internal_error())


def from_validation(errors: Sequence[Any], body: Any) -> Refusal:
    """What pydantic found in a body, as one sentence about the fault that lies deepest."""
    first = max(errors, key=lambda error: len(error["loc"]))
    param = _path(first["loc"], body, first["type"] in ("missing", "extra_forbidden"))
    if first["type"] == "extra_forbidden":
        return Refusal(
            400, f"There is no field `{param}` here. See /docs.", "unknown_parameter", param
        )
    if first["type"] == "json_invalid":
        return Refusal(400, "The body is not valid JSON.", "invalid_json")
    if first["type"] == "missing":
        what = f"`{param}` is missing." if param else "The body is missing."
        return Refusal(400, what, "missing_required_parameter", param)
    what = f"`{param}`: " if param else ""
    if first["type"] == "union_tag_invalid":
        tag, expected = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        by = first["ctx"]["discriminator"].strip("'")
        message = f"{what}the {by} {str(tag)[:60]!r} is none of {expected}."
        return Refusal(400, message, "invalid_value", param)
    return Refusal(400, f"{what}{first['msg'].rstrip('.')}.", "invalid_value", param)


def _path(where: Sequence[int | str], body: Any, is_absent: bool) -> str | None:
    """Where in the body an error lies, without the names that pydantic gives to alternatives.

    `is_absent`: the last name is one that the body lacks, or has too much.
    """
    path: list[str] = []
    names = [part for part in where if part not in ("body", "query", "path")]
    for number, part in enumerate(names):
        is_last = number == len(names) - 1
        member = (
            isinstance(body, dict) and part in body and not _is_tag(names[number + 1 :], part, body)
        )
        item = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if member or item:
            path.append(str(part))
            body = body[part]
        elif is_last and is_absent:
            path.append(str(part))
    return ".".join(path)[:200] or None


def _is_tag(rest: Sequence[int | str], part: int | str, body: dict) -> bool:
    """Whether a name that is also a field's is that of an alternative: `image_url` comes twice."""
    return body.get("type") == part and part in rest[:1]
