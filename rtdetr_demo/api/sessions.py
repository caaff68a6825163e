"""Names of Gradio's sessions and calls: their length, and how many sessions there are."""

import json
from typing import Any
from urllib.parse import parse_qsl

from cachetools import TTLCache

from ..errors import TooManyRequests
from .errors import Refusal

MAX_NAME = 64
"""Characters of a session's or a call's name."""

MAX_SESSIONS = 1000
"""Sessions that are kept; the least recently used ones are dropped."""

OWN_SESSIONS = MAX_SESSIONS // 4
"""Sessions that one address may use within `IDLE_SECONDS`."""

IDLE_SECONDS = 600.0

_FIELDS = ("session_hash", "event_id")
_BY_PATH = ("/gradio_api/heartbeat/", "/gradio_api/call/")


class Sessions:
    """Counts the sessions of each address. Not thread-safe."""

    def __init__(self) -> None:
        self._used: TTLCache[tuple[str, str], None] = TTLCache(MAX_SESSIONS, IDLE_SECONDS)

    def use(self, address: str, name: str) -> None:
        """Count the use of a session. Raises TooManyRequests for one address's too many."""
        is_new = (address, name) not in self._used
        if is_new and sum(other == address for other, _ in self._used) >= OWN_SESSIONS:
            raise TooManyRequests(
                f"Your address has {OWN_SESSIONS} sessions here. Use one of them, or wait.",
                IDLE_SECONDS,
            )
        self._used[address, name] = None


def session_of(path: str, query: bytes, body: bytes) -> str | None:
    """The session that a request to one of Gradio's routes names, if any.

    Raises Refusal (400) for a body that is not JSON, and for a name that is not text or is longer
    than `MAX_NAME` characters.
    """
    names: dict[str, Any] = {}
    if path.startswith(_BY_PATH):
        name = path.rstrip("/").rpartition("/")[2]
        _check(name)
        if path.startswith(_BY_PATH[0]):
            names["session_hash"] = name
    for field, value in parse_qsl(query.decode("latin-1")):
        if field in _FIELDS:
            _check(value)
            names[field] = value
    if body:
        content = parse(body)
        names |= {field: content[field] for field in _FIELDS if content.get(field) is not None}
        for value in names.values():
            _check(value)
    return names.get("session_hash")


def parse(body: bytes) -> dict[str, Any]:
    """The fields of a JSON body. Raises Refusal (400) for anything but a JSON object."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not valid JSON.") from None
    if not isinstance(content, dict):
        raise Refusal(400, "The body is not a JSON object.")
    return content


def check_function(gradio: Any, body: bytes) -> None:
    """Check that a call of `component_server` names a function of the page.

    Args:
        gradio: The running Gradio app.
        body: The request's body.

    Raises:
        Refusal: (404) There is no such component or function.
    """
    content = parse(body)
    component, function = content.get("component_id"), content.get("fn_name")
    block = gradio.get_blocks().blocks.get(component) if isinstance(component, int) else None
    if block is None or not isinstance(function, str) or function not in vars(block):
        raise Refusal(404, "The page has no such function. Reload it and try again.")


def _check(name: Any) -> None:
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise Refusal(
            400, f"Names of sessions and calls are text of at most {MAX_NAME} characters."
        )
