"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from .content import Plain, StreamOptions, begun, event_of, new_id, pieces
from .desk import Desk, Order, Source
from .errors import Refusal, documented
from .forms import MAX_PICTURES, PIXELS, Form, ImageUrl, JsonSchema, Settings, example

DONE = "data: [DONE]\n\n"


class TextPart(Form):
    type: Literal["text"]
    text: str


class ImagePart(Form):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class UserMessage(Form):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=256)]
    name: str | None = None


class OtherMessage(BaseModel):
    """What else was said; a detector does not read it."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "assistant"]
    content: str | list[Any] | None = None


Message = Annotated[UserMessage | OtherMessage, Field(discriminator="role")]


class SchemaFormat(Form):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class ChatRequest(Settings):
    """The last user message carries the pictures; its text may state settings."""

    model_config = example(
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXELS}}]}
        ],
        decoder_layers=3,
    )

    model: Annotated[str, Field(min_length=1, max_length=500)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    response_format: Annotated[Plain | SchemaFormat, Field(discriminator="type")] | None = None
    n: Literal[1] | None = Field(None, description="A detector has one answer.")
    temperature: Annotated[StrictInt | StrictFloat, Field(ge=0, le=2)] | None = Field(
        None, description="Accepted and without effect: nothing is sampled."
    )
    top_p: Annotated[StrictInt | StrictFloat, Field(ge=0, le=1)] | None = Field(
        None, description="Accepted and without effect: nothing is sampled."
    )
    seed: StrictInt | None = Field(None, description="Every answer is the same for the same seed.")
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = Field(None, description="Nothing is stored.")

    @property
    def schema_asked(self) -> JsonSchema | None:
        asked = self.response_format
        return asked.json_schema if isinstance(asked, SchemaFormat) else None


class Usage(BaseModel):
    """What the model worked on: `prompt_tokens` are the feature-map positions that the encoder
    read, `completion_tokens` the queries that the decoder refined. Text costs nothing."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str = Field(description="JSON: see the schema Pictures.")
    refusal: None


class Choice(BaseModel):
    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop"]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["OpenAI"])

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **documented(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
        },
        summary="Detect objects, as a chat completion",
    )
    async def create(body: ChatRequest, request: Request) -> Response:
        sources, text = _last_asked(body.messages)
        order = desk.order(request.state.visit, body.model, sources, body, text)
        if body.stream:
            return await begun(_chunks(order, body))
        async with order as taken:
            content = "".join([piece async for piece in pieces(taken, body.schema_asked)])
            answer = {
                "id": new_id("chatcmpl-"),
                "object": "chat.completion",
                "created": int(time.time()),
                "model": taken.checkpoint,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": content, "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": _usage(taken),
            }
        return JSONResponse(answer)

    return router


def _last_asked(messages: list[UserMessage | OtherMessage]) -> tuple[list[Source], str]:
    """The pictures and the text of the last user message. Raises Refusal where it has none."""
    for i in range(len(messages) - 1, -1, -1):
        message = messages[i]
        if not isinstance(message, UserMessage):
            continue
        parts = message.content if isinstance(message.content, list) else []
        sources = [
            Source(part.image_url.url, f"messages.{i}.content.{k}.image_url")
            for k, part in enumerate(parts)
            if isinstance(part, ImagePart)
        ]
        check_count(sources, f"messages.{i}.content", "image_url")
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        return sources, "\n".join(texts)
    raise Refusal(400, "There is no user message.", "missing_required_parameter", "messages")


def check_count(sources: list[Source], param: str, part: str) -> None:
    """Raises Refusal unless there are pictures, and not too many."""
    if not sources:
        raise Refusal(
            400,
            f"The last user message has no picture. Add a part of type {part}.",
            "missing_image",
            param,
        )
    if len(sources) > MAX_PICTURES:
        raise Refusal(
            400,
            f"One request takes {MAX_PICTURES} pictures. Send the others in another one.",
            "too_many_images",
            param,
        )


def _usage(order: Order) -> dict[str, int]:
    return {
        "prompt_tokens": order.tokens,
        "completion_tokens": order.queries,
        "total_tokens": order.tokens + order.queries,
    }


async def _chunks(taking: Any, body: ChatRequest) -> AsyncIterator[str]:
    async with taking as order:
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        frame: dict[str, Any] = {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": order.checkpoint,
            **({"usage": None} if with_usage else {}),
        }

        def chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
            choice = {
                "index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason,
            }  # fmt: skip
            return event_of({**frame, "choices": [choice]})

        role = {"role": "assistant"}
        async for piece in pieces(order, body.schema_asked):
            yield chunk({**role, "content": piece})
            role = {}
        yield chunk({}, "stop")
        if with_usage:
            yield event_of({**frame, "choices": [], "usage": _usage(order)})
        yield DONE
