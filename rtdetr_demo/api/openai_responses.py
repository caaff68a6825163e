"""`POST /v1/responses`, OpenAI's newer form of the same."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from .dispatch import DetectionRequest, Dispatcher
from .openai_common import (
    ANSWERS,
    Conversation,
    Other,
    Plain,
    event_of,
    json_only,
    last_user_message,
    new_id,
    respond,
)
from .schemas import PIXELS, Form, JsonSchema, example


class InputText(Form):
    type: Literal["input_text"]
    text: str


class InputImage(Form):
    type: Literal["input_image"]
    image_url: str = Field(description="An http(s) address, or a data: URI with base64.")
    detail: Literal["auto", "low", "high", "original"] | None = None

    @property
    def address(self) -> str:
        return self.image_url


Part = Annotated[InputText | InputImage, Field(discriminator="type")]


class UserItem(Form):
    type: Literal["message"] | None = None
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=256)]


Item = Annotated[UserItem | Other, Field(discriminator="role")]


class SchemaFormat(JsonSchema):
    type: Literal["json_schema"]


class TextOptions(Form):
    format: Annotated[Plain | SchemaFormat, Field(discriminator="type")] | None = None


class NoPadding(Form):
    include_obfuscation: Literal[False] | None = None


class ResponsesRequest(Conversation):
    """The last user item carries the pictures; its text may state settings."""

    model_config = example(
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": PIXELS}]}],
        decoder_layers=3,
    )

    input: str | Annotated[list[Item], Field(min_length=1, max_length=1000)]
    instructions: str | None = Field(None, description="Accepted; a detector does not read it.")
    text: TextOptions | None = None
    stream_options: NoPadding | None = None

    @property
    def schema_asked(self) -> JsonSchema | None:
        asked = self.text and self.text.format
        return asked if isinstance(asked, SchemaFormat) else None


class ResponseObject(BaseModel):
    """A response of the newer API; the text of its one message is JSON: see Pictures."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "in_progress"]
    model: str
    output: list[dict[str, Any]]


def routes(dispatcher: Dispatcher) -> APIRouter:
    router = APIRouter(tags=["OpenAI"])

    @router.post(
        "/v1/responses",
        response_model=ResponseObject,
        responses=ANSWERS,
        dependencies=[Depends(json_only)],
        summary="Detect objects, as a response",
    )
    async def create(body: ResponsesRequest, request: Request) -> Response:
        given = body.input
        items = given if isinstance(given, list) else [UserItem(role="user", content=given)]
        sources, text = last_user_message(items, "input", "input_image")
        submission = dispatcher.submit(request.state.context, body.model, sources, body, text)

        def whole(taken: DetectionRequest, content: str) -> dict[str, Any]:
            message = _message(new_id("msg_"), content)
            return {**_response(body, taken), **_completed(taken, message)}

        return await respond(
            submission,
            body,
            body.schema_asked,
            whole,
            lambda taken, content: _events(taken, content, body),
        )

    return router


def _response(body: ResponsesRequest, request: DetectionRequest) -> dict[str, Any]:
    asked = body.text and body.text.format
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": None,
        "metadata": body.metadata or {},
        "model": request.checkpoint,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "temperature": body.temperature,
        "text": {
            "format": asked.model_dump(by_alias=True, exclude_none=True)
            if asked
            else {"type": "text"}
        },
        "tool_choice": "none",
        "tools": [],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(name: str, content: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if content is None else "completed",
        "content": [] if content is None else [_text(content)],
    }


def _completed(request: DetectionRequest, message: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": "completed",
        "output": [message],
        "usage": {
            "input_tokens": request.tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": request.queries,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": request.tokens + request.queries,
        },
    }


async def _events(
    request: DetectionRequest, content: AsyncIterator[str], body: ResponsesRequest
) -> AsyncIterator[str]:
    piece: str | None = await anext(content)  # what fails before this is an error response
    response, name, number, text = _response(body, request), new_id("msg_"), 0, ""

    def event(kind: str, **data: Any) -> str:
        nonlocal number
        number += 1
        return event_of({"type": kind, "sequence_number": number - 1, **data}, kind)

    here = {"item_id": name, "output_index": 0, "content_index": 0}
    yield event("response.created", response=response)
    yield event("response.in_progress", response=response)
    yield event("response.output_item.added", output_index=0, item=_message(name, None))
    yield event("response.content_part.added", **here, part=_text(""))
    while piece is not None:
        text += piece
        yield event("response.output_text.delta", **here, delta=piece, logprobs=[])
        piece = await anext(content, None)
    message = _message(name, text)
    yield event("response.output_text.done", **here, text=text, logprobs=[])
    yield event("response.content_part.done", **here, part=_text(text))
    yield event("response.output_item.done", output_index=0, item=message)
    yield event("response.completed", response={**response, **_completed(request, message)})
