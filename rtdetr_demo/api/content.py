"""What OpenAI's two forms of conversation share: the text of the answer, and its checks."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from fastapi.responses import StreamingResponse
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from pydantic import StrictBool
from referencing import Registry

from ..errors import DemoError
from .desk import Order
from .errors import Refusal, body_of
from .forms import Form, JsonSchema

_MAX_REFERENCES = 10_000


class Plain(Form):
    type: Literal["text", "json_object"]


class StreamOptions(Form):
    include_usage: StrictBool | None = None
    include_obfuscation: Literal[False] | None = None


def new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(14)


async def pieces(order: Order, schema: JsonSchema | None) -> AsyncIterator[str]:
    """The answer's JSON, a piece for each picture as soon as it is there.

    With a schema it comes in one piece, checked. Raises DemoError.
    """
    head = '{"settings": ' + json.dumps(order.settings()) + ', "results": ['
    if schema is not None:
        whole = {"settings": order.settings(), "results": [await one for one in order.answers]}
        _check(whole, schema)
        yield json.dumps(whole)
        return
    for answer in order.answers:
        yield head + json.dumps(await answer)
        head = ", "
    yield "]}"


def _check(content: dict[str, Any], schema: JsonSchema) -> None:
    """Raises Refusal where the client's schema is not one that our answers meet."""
    try:
        Draft202012Validator.check_schema(schema.schema_ or {})
        _careful()(schema.schema_ or {}, registry=Registry()).validate(content)
    except ValidationError as error:
        raise Refusal(
            422,
            f"The answer does not fit the schema “{schema.name}” at {error.json_path}: its form is "
            "fixed, see the schema Pictures at /docs. Send that schema, or json_object.",
            "unsupported_schema",
            "response_format",
        ) from None
    except (SchemaError, Exception):
        # References to nowhere or without end, patterns that do not compile: no end of kinds.
        raise Refusal(
            400, "This JSON schema cannot be used.", "invalid_schema", "response_format"
        ) from None


def _careful() -> type[Draft202012Validator]:
    """A validator for one use, which gives up on what could keep it busy for ever."""
    left = _MAX_REFERENCES

    def follow(validator: Any, ref: str, instance: Any, schema: dict) -> Iterator:
        nonlocal left
        left -= 1  # a few nested references can ask for more steps than there is time
        if left < 0:
            raise RecursionError
        yield from Draft202012Validator.VALIDATORS["$ref"](validator, ref, instance, schema)

    def refuse(*_: Any) -> Iterator:
        raise NotImplementedError  # a client's regular expression

    refused = dict.fromkeys(["$dynamicRef", "pattern", "patternProperties"], refuse)
    return extend(Draft202012Validator, {"$ref": follow, **refused})


async def begun(events: AsyncIterator[str]) -> StreamingResponse:
    """A stream whose first event is here: what fails before that is still an error response."""
    first = await anext(events)

    async def all_events() -> AsyncIterator[str]:
        yield first
        try:
            async for event in events:
                yield event
        except DemoError as error:
            yield event_of(body_of(error))

    return StreamingResponse(
        all_events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


def event_of(data: dict[str, Any], name: str = "") -> str:
    """One server-sent event."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"
