"""What OpenAI's two forms of conversation share: most fields, and the text of the answer."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from ..errors import DemoError
from .auth import RequestContext
from .dispatch import DetectionRequest, Dispatcher, Source
from .errors import Refusal, documented, error_body
from .openai_fields import check_fields, unknown_fields
from .openai_tools import Function, forced_function
from .projection import Projection
from .prompt import read_settings
from .schemas import MAX_PICTURES, JsonSchema, OpenForm, Settings, Share

if TYPE_CHECKING:
    from ..detector.detector import Detector

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    **documented(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
}

_UPTO_TWO = Annotated[StrictInt, Field(ge=0, le=2)] | Annotated[StrictFloat, Field(ge=0, le=2)]


class OtherMessage(BaseModel):
    """What others said in a conversation. Of a system message the settings are read."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "assistant", "tool", "function"]
    content: str | list[Any] | None = None


class Conversation(Settings):
    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=500)]
    stream: StrictBool | None = None
    temperature: _UPTO_TWO | None = Field(
        None, description="Accepted and without effect: nothing is sampled."
    )
    top_p: Share | None = Field(
        None, description="Accepted and without effect: nothing is sampled."
    )
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: StrictBool | None = Field(
        None, description="Accepted and without effect: nothing is stored."
    )
    tools: list[dict[str, Any]] | None = Field(
        None, description="Functions; one that `tool_choice` forces is called with the answer."
    )
    tool_choice: str | dict[str, Any] | None = Field(
        None, description="The function to call, “required” where there is one, or “none”."
    )


class PlainFormat(OpenForm):
    type: Literal["text", "json_object"]


class StreamOptions(OpenForm):
    include_usage: StrictBool | None = None


@dataclass(frozen=True)
class Turn:
    """What a conversation asks: its latest pictures, its newest text, and what the system said."""

    pictures: list[Source]
    text: str
    system: str


def latest_turn(messages: Sequence[Any], param: str, kind: str, system: str = "") -> Turn:
    """The turn to answer; a message without pictures (parts of type `kind`) asks about those of
    the latest one that has some.

    `system`: instructions that precede the messages. Raises Refusal where there is no message by
    the user, or not from 1 to `MAX_PICTURES` pictures.
    """
    spoken = [i for i, message in enumerate(messages) if _role(message) == "user"]
    if not spoken:
        raise Refusal(400, "There is no user message.", "missing_required_parameter", param)
    shown = [i for i in spoken if any(part.type == kind for part in _parts(messages[i]))]
    if not shown:
        raise Refusal(
            400,
            f"The last user message has no picture, nor has one before it. Add a part of type "
            f"{kind}.",
            "missing_image",
            f"{param}.{spoken[-1]}.content",
        )
    where = f"{param}.{shown[-1]}.content"
    sources = [
        Source(part.address, f"{where}.{k}.image_url")
        for k, part in enumerate(_parts(messages[shown[-1]]))
        if part.type == kind
    ]
    if len(sources) > MAX_PICTURES:
        raise Refusal(
            400,
            f"One request takes {MAX_PICTURES} pictures. Send the others in another one.",
            "too_many_images",
            where,
        )
    said = [_text(one) for one in messages if _role(one) in ("system", "developer")]
    return Turn(sources, _text(messages[spoken[-1]]), "\n".join([system, *said]))


def _role(message: Any) -> str | None:
    return getattr(message, "role", None)


def _parts(message: Any) -> list[Any]:
    return message.content if isinstance(message.content, list) else []


def _text(message: Any) -> str:
    """The text of a message, of the user's checked parts or of others' unchecked ones."""
    if isinstance(message.content, str):
        return message.content
    texts = [
        part.get("text") if isinstance(part, dict) else getattr(part, "text", None)
        for part in _parts(message)
    ]
    return "\n".join(text for text in texts if isinstance(text, str))


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


@dataclass(frozen=True)
class AnswerForm:
    """How an answer is put: as the arguments of a function, in a schema, or as it is."""

    function: Function | None = None
    projection: Projection | None = None


async def begin(
    dispatcher: Dispatcher,
    context: RequestContext,
    body: Conversation,
    turn: Turn,
    schema: JsonSchema | None,
    param: str,
) -> tuple[AbstractAsyncContextManager[DetectionRequest], AnswerForm]:
    """The submission of a conversation's turn, and the form of its answer.

    `schema` is the response format's, `param` where it stands. Settings in fields win over the
    newest text's, and these over the system's. Raises Refusal.
    """
    check_fields(body)
    if ignored := unknown_fields(body):
        context.facts["ignored"] = ignored
    function = forced_function(body.tools, body.tool_choice)
    projection = None
    if function is not None:
        projection = await asyncio.to_thread(
            Projection, function.parameters, function.name, function.param, len(turn.pictures)
        )
    elif schema is not None and schema.schema_ is not None:
        projection = await asyncio.to_thread(
            Projection, schema.schema_, schema.name, param, len(turn.pictures)
        )
    detector = await dispatcher.detector(body.model)
    settings = _settings(detector, body, turn, projection)
    submission = dispatcher.submit(context, body.model, turn.pictures, settings)
    return submission, AnswerForm(function, projection)


def _settings(
    detector: "Detector", body: Conversation, turn: Turn, projection: Projection | None
) -> Settings:
    stated: dict[str, Any] = {}
    for text in (turn.system, turn.text):
        stated |= read_settings(text, detector.class_names, detector.depth)
    stated |= body.given()
    if projection and projection.labels is not None and "classes" not in stated:
        stated["classes"] = [
            name for name in detector.class_names if name.lower() in projection.labels
        ]
        if not stated["classes"]:
            raise Refusal(
                422,
                f"None of the schema's labels is a class of {detector.checkpoint}. It knows: "
                f"{', '.join(detector.class_names)}.",
                "unknown_class",
                projection.param,
            )
    return Settings.model_validate(stated)


async def content_chunks(
    request: DetectionRequest, projection: Projection | None
) -> AsyncIterator[str]:
    """The answer (`schemas.Pictures`) as JSON text: one chunk for each picture, when it is ready.

    In a schema's form it comes in one chunk. Raises DemoError.
    """
    head = '{"settings": ' + json.dumps(request.settings()) + ', "results": ['
    if projection is not None:
        results = [await answer for answer in request.answers]
        whole = {"settings": request.settings(), "results": results}
        yield json.dumps(await asyncio.to_thread(projection.apply, whole))
        return
    for answer in request.answers:
        yield head + json.dumps(await answer)
        head = ", "
    yield "]}"


async def respond(
    submission: AbstractAsyncContextManager[DetectionRequest],
    body: Conversation,
    form: AnswerForm,
    whole: Callable[[DetectionRequest, str], dict[str, Any]],
    events: Callable[[DetectionRequest, AsyncIterator[str]], AsyncIterator[str]],
) -> Response:
    """Enter `submission` and return its response: server-sent events from `events` if
    `body.stream`, else the JSON body from `whole`. Raises DemoError before the response starts."""

    async def stream() -> AsyncIterator[str]:
        async with submission as request:
            async for event in events(request, content_chunks(request, form.projection)):
                yield event

    if body.stream:
        return await streaming_response(stream())
    async with submission as request:
        text = "".join([chunk async for chunk in content_chunks(request, form.projection)])
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
