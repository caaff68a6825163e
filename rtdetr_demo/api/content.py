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
        _Careful(schema.schema_ or {}, registry=Registry()).validate(content)
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


def _references(validator: Any, ref: str, instance: Any, schema: dict) -> Iterator:
    # A few nested references can ask for more work than there is time in the world.
    steps = validator.__dict__.setdefault("steps", [0])
    steps[0] += 1
    if steps[0] > _MAX_REFERENCES:
        raise RecursionError
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, ref, instance, schema)


def _no_patterns(*_: Any) -> Iterator:
    raise NotImplementedError("a client's regular expression may run for ever")


_Careful = extend(
    Draft202012Validator,
    {
        "$ref": _references,
        "$dynamicRef": _no_patterns,
        "pattern": _no_patterns,
        "patternProperties": _no_patterns,
    },
)


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
