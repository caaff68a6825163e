"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, StrictInt

from .dispatch import DetectionRequest, Dispatcher
from .openai_common import (
    ANSWERS,
    Conversation,
    OtherMessage,
    PlainFormat,
    StreamOptions,
    begin,
    event_of,
    json_only,
    latest_turn,
    new_id,
    respond,
)
from .openai_tools import Function
from .schemas import PIXELS, ImageUrl, JsonSchema, OpenForm, example

DONE = "data: [DONE]\n\n"


class TextPart(OpenForm):
    type: Literal["text"]
    text: str


class ImagePart(OpenForm):
    type: Literal["image_url"]
    image_url: ImageUrl | str

    @property
    def address(self) -> str:
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class UserMessage(OpenForm):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=256)]
    name: str | None = None


Message = Annotated[UserMessage | OtherMessage, Field(discriminator="role")]


class JsonSchemaFormat(OpenForm):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class ChatRequest(Conversation):
    """The latest pictures of the user are looked at; the newest text may state settings."""

    model_config = example(
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXELS}}]}
        ],
        decoder_layers=3,
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream_options: StreamOptions | None = None
    response_format: (
        Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")] | None
    ) = None
    n: Annotated[StrictInt, Field(ge=1, le=1)] | None = Field(
        None, description="A detector has one answer."
    )
    seed: StrictInt | None = Field(None, description="Every answer is the same for the same seed.")

    @property
    def answer_schema(self) -> JsonSchema | None:
        form = self.response_format
        return form.json_schema if isinstance(form, JsonSchemaFormat) else None


class Usage(BaseModel):
    """What the model worked on: `prompt_tokens` are the feature-map positions that the encoder
    read, `completion_tokens` the queries that the decoder refined. Text costs nothing."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CalledFunction(BaseModel):
    name: str
    arguments: str = Field(description="JSON that follows the function's parameters.")


class ToolCall(BaseModel):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None = Field(
        description="JSON: see the schema Pictures; null where a function is called."
    )
    refusal: None
    tool_calls: list[ToolCall] | None = None


class Choice(BaseModel):
    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop", "tool_calls"]


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
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        turn = latest_turn(body.messages, "messages", "image_url")
        submission, form = await begin(
            dispatcher,
            request.state.context,
            body,
            turn,
            body.answer_schema,
            "response_format",
        )
        return await respond(
            submission,
            body,
            form,
            lambda taken, content: _completion(taken, content, form.function),
            lambda taken, content: _chunks(taken, content, body.stream_options, form.function),
        )

    return router


def _usage(request: DetectionRequest) -> dict[str, int]:
    return {
        "prompt_tokens": request.tokens,
        "completion_tokens": request.queries,
        "total_tokens": request.tokens + request.queries,
    }


def _call(function: Function, arguments: str) -> dict[str, Any]:
    return {
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": function.name, "arguments": arguments},
    }


def _completion(
    request: DetectionRequest, content: str, function: Function | None
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if function:
        message |= {"content": None, "tool_calls": [_call(function, content)]}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if function else "stop",
    }
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.checkpoint,
        "choices": [choice],
        "usage": _usage(request),
    }


async def _chunks(
    request: DetectionRequest,
    content: AsyncIterator[str],
    options: StreamOptions | None,
    function: Function | None,
) -> AsyncIterator[str]:
    with_usage = options is not None and bool(options.include_usage)
    frame: dict[str, Any] = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.checkpoint,
        **({"usage": None} if with_usage else {}),
    }

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event_of({**frame, "choices": [choice]})

    first: dict[str, Any] = {"role": "assistant"}
    async for piece in content:
        delta: dict[str, Any]
        if function:
            delta = {"content": None, "tool_calls": [{"index": 0, **_call(function, piece)}]}
        else:
            delta = {"content": piece}
        yield chunk({**first, **delta})
        first = {}
    yield chunk({}, "tool_calls" if function else "stop")
    if with_usage:
        yield event_of({**frame, "choices": [], "usage": _usage(request)})
    yield DONE
