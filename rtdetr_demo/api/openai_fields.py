"""Fields of OpenAI's API that a detector has no use for: which are harmless, which are refused."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from .errors import Refusal

_WITHOUT_EFFECT = frozenset(
    "cache_control frequency_penalty include include_obfuscation logit_bias max_completion_tokens "
    "max_output_tokens max_tokens max_tool_calls parallel_tool_calls prediction presence_penalty "
    "prompt_cache_key prompt_cache_retention reasoning reasoning_effort safety_identifier "
    "service_tier stop top_k truncation verbosity".split()
)
"""Known fields that only shape text, or how a request is billed, cached or told of."""

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "audio": ((), "answers are text"),
    "background": ((False,), "answers are not stored: wait for them, or stream"),
    "conversation": ((), "conversations are not stored: send all messages again"),
    "function_call": (("none", "auto"), "use `tools` and `tool_choice`"),
    "functions": (([],), "use `tools` and `tool_choice`"),
    "logprobs": ((False,), "no text is sampled: each detection has a score"),
    "modalities": ((["text"], []), "answers are text"),
    "previous_response_id": ((), "responses are not stored: send all messages again"),
    "prompt": ((), "there are no stored prompts: send messages"),
    "top_logprobs": ((0,), "no text is sampled: each detection has a score"),
    "web_search_options": ((), "nothing is searched"),
}
"""Fields that would change the answer: the values that do not, besides null, and why not others."""

_MAX_LOGGED = 20


def check_fields(body: BaseModel) -> None:
    """Raises Refusal (400) for a field whose value asks for what a detector cannot do."""
    for name, (harmless, why) in _REFUSED.items():
        value = (body.model_extra or {}).get(name)
        # Equal and of one type: false is no zero here.
        if value is None or any(value == one and type(value) is type(one) for one in harmless):
            continue
        raise Refusal(
            400, f"`{name}` is not supported: {why}. Leave it out.", "unsupported_parameter", name
        )


def unknown_fields(body: BaseModel) -> list[str]:
    """Where in a body fields stand that nobody here knows, at most `_MAX_LOGGED` of them."""
    found: list[str] = []
    for path in _unknown(body, ""):
        found.append(path[:100].encode("utf-8", "replace").decode())
        if len(found) == _MAX_LOGGED:
            break
    return found


def _unknown(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, f"{path}.{number}")
    elif isinstance(value, BaseModel):
        # What others said may have any fields.
        if getattr(value, "role", "user") == "user":
            for name in value.model_extra or ():
                if name not in _WITHOUT_EFFECT and name not in _REFUSED:
                    yield f"{path}.{name}".strip(".")
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{path}.{name}".strip("."))
