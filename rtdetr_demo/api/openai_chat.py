"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, StrictInt

from .dispatch import DetectionRequest, Dispatcher
from .errors import Refusal
from .openai_common import (
    ANSWERS,
    Conversation,
    Other,
    Plain,
    StreamOptions,
    event_of,
    json_only,
    last_user_message,
    new_id,
    respond,
)
from .schemas import PIXELS, Form, ImageUrl, JsonSchema, example

DONE = "data: [DONE]\n\n"


class TextPart(Form):
    type: Literal["text"]
    text: str


class ImagePart(Form):
    type: Literal["image_url"]
    image_url: ImageUrl

    @property
    def address(self) -> str:
        return self.image_url.url


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class UserMessage(Form):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=256)]
    name: str | None = None


Message = Annotated[UserMessage | Other, Field(discriminator="role")]


class SchemaFormat(Form):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class ChatRequest(Conversation):
    """The last user message carries the pictures; its text may state settings."""

    model_config = example(
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXELS}}]}
        ],
        decoder_layers=3,
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream_options: StreamOptions | None = None
    response_format: Annotated[Plain | SchemaFormat, Field(discriminator="type")] | None = None
    n: Annotated[StrictInt, Field(ge=1, le=1)] | None = Field(
        None, description="A detector has one answer."
    )
    seed: StrictInt | None = Field(None, description="Every answer is the same for the same seed.")

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


def routes(dispatcher: Dispatcher) -> APIRouter:
    router = APIRouter(tags=["OpenAI"])

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=ANSWERS,
        dependencies=[Depends(json_only)],
        summary="Detect objects, as a chat completion",
    )
    async def create(body: ChatRequest, request: Request) -> Response:
        if body.stream_options and not body.stream:
            raise Refusal(
                400, "`stream_options` needs `stream`.", "invalid_value", "stream_options"
            )
        sources, text = last_user_message(body.messages, "messages", "image_url")
        submission = dispatcher.submit(request.state.context, body.model, sources, body, text)
        return await respond(
            submission,
            body,
            body.schema_asked,
            _completion,
            lambda taken, content: _chunks(taken, content, body.stream_options),
        )

    return router


def _usage(request: DetectionRequest) -> dict[str, int]:
    return {
        "prompt_tokens": request.tokens,
        "completion_tokens": request.queries,
        "total_tokens": request.tokens + request.queries,
    }


def _completion(request: DetectionRequest, content: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.checkpoint,
        "choices": [choice],
        "usage": _usage(request),
    }


async def _chunks(
    request: DetectionRequest, content: AsyncIterator[str], options: StreamOptions | None
) -> AsyncIterator[str]:
    with_usage = options is not None and bool(options.include_usage)
    frame: dict[str, Any] = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.checkpoint,
        **({"usage": None} if with_usage else {}),
    }

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event_of({**frame, "choices": [choice]})

    role = {"role": "assistant"}
    async for piece in content:
        yield chunk({**role, "content": piece})
        role = {}
    yield chunk({}, "stop")
    if with_usage:
        yield event_of({**frame, "choices": [], "usage": _usage(request)})
    yield DONE
