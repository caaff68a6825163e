"""Gradio's queue of calls, bounded: it would end for good where many calls are never read."""

import time
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import HTTPException, Request
from gradio.queueing import Event
from gradio.queueing import Queue as GradioQueue

MAX_CALLS = 512
OWN_CALLS = 128
"""Calls that wait, run, or whose answers nobody has read: in all and of one address. Gradio forgets
sessions past 2,000, and its queue stops where it has an answer for one that it has forgotten."""

UNREAD_SECONDS = 60.0
"""How long an answer waits to be read."""


@dataclass
class _Call:
    address: str
    session: str
    ended: float | None = None


class BoundedQueue(GradioQueue):
    """Takes over from a queue that has not begun; refuses calls past its limits."""

    def __init__(self, before: GradioQueue):
        super().__init__(
            live_updates=before.live_updates,
            concurrency_count=before.max_thread_count,
            update_intervals=before.update_intervals,
            max_size=MAX_CALLS,
            blocks=before.blocks,
            default_concurrency_limit=before.default_concurrency_limit,
        )
        # How often it looks for calls where none wait: by default a thousand times a second.
        self.sleep_when_free = 0.01
        self._calls: dict[str, _Call] = {}

    async def push(
        self, body: Any, request: Request, username: str | None
    ) -> tuple[
        bool,
        str | list[dict[str, Any]],
        Literal["success", "error", "queue_full", "validator_error"],
    ]:
        """Take a call. Raises HTTPException (429) for one address's too many."""
        self._forget()
        address = request.client.host if request.client else "unknown"
        if sum(call.address == address for call in self._calls.values()) >= OWN_CALLS:
            raise HTTPException(
                429,
                f"{OWN_CALLS} calls of yours are under way or wait to be read. Read some answers, "
                "then send this again.",
                {"retry-after": "1"},
            )
        if len(self._calls) >= MAX_CALLS:
            raise HTTPException(
                503,
                "The queue is full. Try again in a moment.",
                {"retry-after": "5"},
            )
        result = await super().push(body, request, username)
        done, name, _ = result
        if done and isinstance(name, str):
            self._calls[name] = _Call(address, body.session_hash)
        return result

    def send_message(self, event: Event, event_message: Any) -> None:
        """Leave an answer for whoever called, if they are known still."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def _forget(self) -> None:
        """Let go of calls that were read, and of those that ended and never were."""
        now = time.monotonic()
        for name, call in list(self._calls.items()):
            if name in self.event_ids_to_events:
                continue
            call.ended = call.ended or now
            unread = name in self.pending_event_ids_session.get(call.session, ())
            if unread and now - call.ended < UNREAD_SECONDS:
                continue
            del self._calls[name]
            if unread and not any(one.session == call.session for one in self._calls.values()):
                self.pending_messages_per_session.pop(call.session, None)
                self.pending_event_ids_session.pop(call.session, None)
