"""Functions that a client offers to be called. A detector calls one only if it is forced to."""

from dataclasses import dataclass
from typing import Any

from .errors import Refusal
from .schemas import schema_problem


@dataclass(frozen=True)
class Function:
    """The function to call; `param`: where the schema of its parameters stood."""

    name: str
    parameters: dict[str, Any]
    param: str


def forced_function(
    tools: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None
) -> Function | None:
    """The function that `choice` forces: one by its name, or the only one where one is required.

    None where text is the answer. Takes both of OpenAI's forms. Raises Refusal (400) for a choice
    among several tools, and for a choice of none of them.
    """
    functions = [
        function
        for number, tool in enumerate(tools or ())
        if (function := _function(tool, number)) is not None
    ]
    count = len(tools or ())
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        allowed = allowed if isinstance(allowed, dict) else {}
        wanted = [_name(tool) for tool in _dicts(allowed.get("tools"))]
        functions = [function for function in functions if function.name in wanted]
        count, choice = len(wanted), allowed.get("mode")
    if choice == "none" or (choice in (None, "auto") and count <= 1):
        return None
    if isinstance(choice, dict):
        for function in functions:
            if function.name == _name(choice):
                return function
        raise Refusal(
            400, "`tool_choice` names no function of `tools`.", "invalid_value", "tool_choice"
        )
    if choice == "required" and count == len(functions) == 1:
        return functions[0]
    if choice not in (None, "auto", "required"):
        raise Refusal(
            400,
            "`tool_choice` is none, auto, required or a function.",
            "invalid_value",
            "tool_choice",
        )
    raise Refusal(
        400,
        "A detector cannot choose among tools: name one function in `tool_choice`, or send "
        "tool_choice “none”.",
        "unsupported_parameter",
        "tools" if count else "tool_choice",
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _inner(tool: dict[str, Any]) -> dict[str, Any]:
    """The function's own object, which chat completions wrap."""
    inner = tool.get("function", tool)
    return inner if isinstance(inner, dict) else {}


def _name(tool: dict[str, Any]) -> Any:
    return _inner(tool).get("name")


def _function(tool: dict[str, Any], number: int) -> Function | None:
    """None for a tool that is no function, such as a search."""
    if tool.get("type", "function") != "function":
        return None
    param = f"tools.{number}.function" if "function" in tool else f"tools.{number}"
    name, parameters = _name(tool), _inner(tool).get("parameters")
    if not isinstance(name, str) or not 1 <= len(name) <= 128:
        raise Refusal(400, f"`{param}.name` is missing.", "invalid_value", f"{param}.name")
    if parameters is None:
        parameters = {}
    param = f"{param}.parameters"
    if not isinstance(parameters, dict):
        raise Refusal(400, f"`{param}` is a JSON schema.", "invalid_value", param)
    if problem := schema_problem(parameters):
        raise Refusal(400, f"`{param}`: {problem}.", "invalid_schema", param)
    return Function(name, parameters, param)
