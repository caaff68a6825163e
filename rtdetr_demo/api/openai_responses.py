"""`POST /v1/responses`, OpenAI's newer form of the same."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

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


class InputText(OpenForm):
    type: Literal["input_text"]
    text: str


class InputImage(OpenForm):
    type: Literal["input_image"]
    image_url: str | ImageUrl = Field(description="An http(s) address, or a data: URI with base64.")
    detail: str | None = None

    @property
    def address(self) -> str:
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


InputPart = Annotated[InputText | InputImage, Field(discriminator="type")]


class UserItem(OpenForm):
    type: Literal["message"] | None = None
    role: Literal["user"]
    content: str | Annotated[list[InputPart], Field(min_length=1, max_length=256)]


class OtherItem(BaseModel):
    """An item that is no message, such as a function's call or output; it has no effect."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(min_length=1, max_length=100)]


def _kind_of_item(item: Any) -> str:
    role = item.get("role") if isinstance(item, dict) else getattr(item, "role", None)
    return "item" if role is None else "user" if role == "user" else "other"


Item = Annotated[
    Annotated[UserItem, Tag("user")]
    | Annotated[OtherMessage, Tag("other")]
    | Annotated[OtherItem, Tag("item")],
    Discriminator(_kind_of_item),
]


class JsonSchemaTextFormat(JsonSchema):
    type: Literal["json_schema"]


class TextOptions(OpenForm):
    format: Annotated[PlainFormat | JsonSchemaTextFormat, Field(discriminator="type")] | None = None


class ResponsesRequest(Conversation):
    """The latest pictures of the user are looked at; the newest text may state settings."""

    model_config = example(
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": PIXELS}]}],
        decoder_layers=3,
    )

    input: str | Annotated[list[Item], Field(min_length=1, max_length=1000)]
    instructions: str | None = Field(None, description="May state settings.")
    text: TextOptions | None = None
    stream_options: StreamOptions | None = None

    @property
    def answer_schema(self) -> JsonSchema | None:
        form = self.text and self.text.format
        return form if isinstance(form, JsonSchemaTextFormat) else None


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
    async def create_response(body: ResponsesRequest, request: Request) -> Response:
        items = body.input
        if isinstance(items, str):
            items = [UserItem(role="user", content=items)]
        turn = latest_turn(items, "input", "input_image", body.instructions or "")
        submission, form = await begin(
            dispatcher, request.state.context, body, turn, body.answer_schema, "text.format"
        )

        def whole(taken: DetectionRequest, content: str) -> dict[str, Any]:
            return {**_response(body, taken), **_completed(taken, _item(form.function, content))}

        return await respond(
            submission,
            body,
            form,
            whole,
            lambda taken, content: _events(taken, content, body, form.function),
        )

    return router


def _response(body: ResponsesRequest, request: DetectionRequest) -> dict[str, Any]:
    form = body.text and body.text.format
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
            "format": form.model_dump(by_alias=True, exclude_none=True)
            if form
            else {"type": "text"}
        },
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(function: Function | None, content: str) -> dict[str, Any]:
    """The whole output: a message, or the call of a function."""
    if function:
        return _call(function, new_id("fc_"), new_id("call_"), content)
    return _message(new_id("msg_"), content)


def _call(
    function: Function, name: str, call: str, arguments: str, status: str = "completed"
) -> dict[str, Any]:
    return {
        "id": name,
        "type": "function_call",
        "call_id": call,
        "name": function.name,
        "arguments": arguments,
        "status": status,
    }


def _message(name: str, content: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if content is None else "completed",
        "content": [] if content is None else [_text(content)],
    }


def _completed(request: DetectionRequest, item: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": "completed",
        "output": [item],
        "usage": {
            "input_tokens": request.tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": request.queries,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": request.tokens + request.queries,
        },
    }


async def _events(
    request: DetectionRequest,
    content: AsyncIterator[str],
    body: ResponsesRequest,
    function: Function | None,
) -> AsyncIterator[str]:
    piece: str | None = await anext(content)  # what fails before this is an error response
    response, number, text = _response(body, request), 0, ""
    name, call = new_id("fc_" if function else "msg_"), new_id("call_")

    def event(kind: str, **data: Any) -> str:
        nonlocal number
        number += 1
        return event_of({"type": kind, "sequence_number": number - 1, **data}, kind)

    place = {"item_id": name, "output_index": 0}
    part = {**place, "content_index": 0}
    yield event("response.created", response=response)
    yield event("response.in_progress", response=response)
    item = _call(function, name, call, "", "in_progress") if function else _message(name, None)
    yield event("response.output_item.added", output_index=0, item=item)
    if not function:
        yield event("response.content_part.added", **part, part=_text(""))
    while piece is not None:
        text += piece
        if function:
            yield event("response.function_call_arguments.delta", **place, delta=piece)
        else:
            yield event("response.output_text.delta", **part, delta=piece, logprobs=[])
        piece = await anext(content, None)
    if function:
        item = _call(function, name, call, text)
        yield event(
            "response.function_call_arguments.done", **place, name=function.name, arguments=text
        )
    else:
        item = _message(name, text)
        yield event("response.output_text.done", **part, text=text, logprobs=[])
        yield event("response.content_part.done", **part, part=_text(text))
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response={**response, **_completed(request, item)})
