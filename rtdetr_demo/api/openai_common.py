"""What OpenAI's two forms of conversation share: most fields, and the text of the answer."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt
from referencing import Registry

from ..errors import DemoError
from .dispatch import DetectionRequest, Source
from .errors import Refusal, documented, error_body
from .schemas import MAX_PICTURES, Form, JsonSchema, Settings

_SCHEMA_SECONDS = 2.0

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    **documented(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
}


class Other(BaseModel):
    """What else was said in a conversation; a detector does not read it."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "assistant"]
    content: str | list[Any] | None = None


class Conversation(Settings):
    model: Annotated[str, Field(min_length=1, max_length=500)]
    stream: StrictBool | None = None
    temperature: Annotated[StrictInt | StrictFloat, Field(ge=0, le=2)] | None = Field(
        None, description="Accepted and without effect: nothing is sampled."
    )
    top_p: Annotated[StrictInt | StrictFloat, Field(ge=0, le=1)] | None = Field(
        None, description="Accepted and without effect: nothing is sampled."
    )
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = Field(None, description="Nothing is stored.")


class Plain(Form):
    type: Literal["text", "json_object"]


class StreamOptions(Form):
    include_usage: StrictBool | None = None
    include_obfuscation: Literal[False] | None = None


def last_user_message(messages: Sequence[Any], param: str, kind: str) -> tuple[list[Source], str]:
    """The pictures (parts of type `kind`) and the text of the last message by the user.

    Raises Refusal where there is none, or not from 1 to `MAX_PICTURES` pictures in it.
    """
    last = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), None)
    if last is None:
        raise Refusal(400, "There is no user message.", "missing_required_parameter", param)
    content, where = messages[last].content, f"{param}.{last}.content"
    parts = content if isinstance(content, list) else []
    sources = [
        Source(part.address, f"{where}.{k}.image_url")
        for k, part in enumerate(parts)
        if part.type == kind
    ]
    if not sources:
        raise Refusal(
            400,
            f"The last user message has no picture. Add a part of type {kind}.",
            "missing_image",
            where,
        )
    if len(sources) > MAX_PICTURES:
        raise Refusal(
            400,
            f"One request takes {MAX_PICTURES} pictures. Send the others in another one.",
            "too_many_images",
            where,
        )
    return sources, "\n".join(part.text for part in parts if part.type != kind)


class Json(JSONResponse):
    """JSON in ASCII: a client's text may hold half a surrogate pair, which UTF-8 cannot write."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


def json_only(request: Request) -> None:
    """Raises Refusal (415) for a body that does not say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refusal(
            415,
            "Send JSON, and say so: Content-Type: application/json.",
            "unsupported_content_type",
        )


def new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(14)


async def content_chunks(
    request: DetectionRequest, schema: JsonSchema | None
) -> AsyncIterator[str]:
    """The answer (`schemas.Pictures`) as JSON text: one chunk for each picture, when it is ready.

    With a schema it comes in one chunk, checked against it. Raises DemoError.
    """
    head = '{"settings": ' + json.dumps(request.settings()) + ', "results": ['
    if schema is not None:
        whole = {"settings": request.settings(), "results": [await one for one in request.answers]}
        await asyncio.to_thread(_check, whole, schema)
        yield json.dumps(whole)
        return
    for answer in request.answers:
        yield head + json.dumps(await answer)
        head = ", "
    yield "]}"


def _check(content: dict[str, Any], schema: JsonSchema) -> None:
    """Raises Refusal where the client's schema is not one that our answers meet."""
    try:
        Draft202012Validator.check_schema(schema.schema_ or {})
        _bounded_validator()(schema.schema_ or {}, registry=Registry()).validate(content)
    except ValidationError as error:
        raise Refusal(
            422,
            f"The answer does not fit the schema “{schema.name}” at {error.json_path}: its form is "
            "fixed, see the schema Pictures at /docs. Send that schema, or json_object.",
            "unsupported_schema",
            "response_format",
        ) from None
    except Exception:
        # No schema at all, references to nowhere or without end: there is no end of kinds.
        raise Refusal(
            400, "This JSON schema cannot be used.", "invalid_schema", "response_format"
        ) from None


def _bounded_validator() -> type[Draft202012Validator]:
    """A validator for one use, which gives up on what could keep it busy for ever."""
    end = time.monotonic() + _SCHEMA_SECONDS

    def timed(check: Callable) -> Callable:
        def run(*arguments: Any) -> Iterator:
            if time.monotonic() > end:
                raise TimeoutError
            yield from check(*arguments) or ()

        return run

    def refuse(*_: Any) -> Iterator:
        raise ValueError("a client's regular expression may run for ever")

    checks = {name: timed(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    return extend(
        Draft202012Validator,
        {**checks, "$dynamicRef": refuse, "pattern": refuse, "patternProperties": refuse},
    )


async def respond(
    submission: AbstractAsyncContextManager[DetectionRequest],
    body: Conversation,
    schema: JsonSchema | None,
    whole: Callable[[DetectionRequest, str], dict[str, Any]],
    events: Callable[[DetectionRequest, AsyncIterator[str]], AsyncIterator[str]],
) -> Response:
    """Enter `submission` and return its response: server-sent events from `events` if
    `body.stream`, else the JSON body from `whole`. Raises DemoError before the response starts."""

    async def stream() -> AsyncIterator[str]:
        async with submission as request:
            async for event in events(request, content_chunks(request, schema)):
                yield event

    if body.stream:
        return await streaming_response(stream())
    async with submission as request:
        text = "".join([chunk async for chunk in content_chunks(request, schema)])
        return Json(whole(request, text))


async def streaming_response(events: AsyncIterator[str]) -> StreamingResponse:
    """The response that streams these events, begun only when the first is there.

    Raises what fails until then, which so gets its status; later errors become an event.
    """
    first = await anext(events)

    async def all_events() -> AsyncIterator[str]:
        yield first
        try:
            async for event in events:
                yield event
        except DemoError as error:
            yield event_of(error_body(error))

    return StreamingResponse(
        all_events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


def event_of(data: dict[str, Any], name: str = "") -> str:
    """One server-sent event."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"
