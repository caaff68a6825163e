"""What kinds of values a JSON schema allows."""

from collections.abc import Sequence
from typing import Any


def alternatives(schema: dict[str, Any]) -> Sequence[Any]:
    """The schema itself, and those that its `anyOf` and `oneOf` hold."""
    return [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]


def is_nullable(schema: dict[str, Any]) -> bool:
    """Whether a schema without references allows null."""
    kind = schema.get("type")
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return kind == "null" or (isinstance(kind, list) and "null" in kind) or None in values


def kinds_of_schema(schema: dict[str, Any]) -> set[str]:
    """The JSON types that a schema without references allows, or "any"."""
    kind = schema.get("type")
    if kind is not None:
        return {kind} if isinstance(kind, str) else set(kind)
    if "properties" in schema:
        return {"object"}
    if "items" in schema:
        return {"array"}
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return set().union(*map(kinds_of_value, values)) - {"any"} if values else {"any"}


def kinds_of_value(value: Any) -> set[str]:
    """The JSON types of a value, and "any"."""
    kinds: dict[type, set[str]] = {
        str: {"string"},
        int: {"integer", "number"},
        float: {"number"},
        dict: {"object"},
        list: {"array"},
    }
    return kinds.get(type(value), set()) | {"any"}
