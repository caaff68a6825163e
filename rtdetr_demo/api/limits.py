"""Bodies within limits of size and time, answers no faster than they are read."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import DemoError, TooManyRequests
from .errors import Refusal

MAX_BODIES = 512 * 2**20
MAX_OWN = 256 * 2**20
"""Bytes of bodies that are held at once: of all together, and of one client."""

MAX_SECONDS = 60.0
"""Seconds that a body may take in all."""

_DRAIN_SECONDS = 5.0
_PIECE = 65_536


class ClientDisconnected(Exception):
    """The client has hung up."""


class BodyBudget:
    """Accounts for the bodies that are in memory, in all and of each client.

    `patience`: seconds that a body may stand still.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def body(self, client: str, limit: int) -> Iterator["Body"]:
        """A body of this client of at most `limit` bytes, held until the block ends."""
        body = Body(self._held, client, limit, self.patience)
        try:
            yield body
        finally:
            self._held[client] -= body.size
            if not self._held[client]:
                del self._held[client]


class Body:
    """One body on its way into memory; `size`: its bytes so far."""

    def __init__(self, held: Counter[str], client: str, limit: int, patience: float):
        self._held = held
        self._client = client
        self._limit = limit
        self._patience = patience
        self.size = 0

    def hold(self, size: int) -> None:
        """Account for its size.

        Raises Refusal (413) past the limit, TooManyRequests past the budget.
        """
        if size > self._limit:
            raise Refusal(413, f"The body is over {self._limit // 2**20} MB. Send less at once.")
        more = size - self.size
        if self._held[self._client] + more > MAX_OWN or self._held.total() + more > MAX_BODIES:
            raise TooManyRequests("Too much is being sent here at once. Try again soon.", 2.0)
        self._held[self._client] += more
        self.size = size

    async def read(self, receive: Receive, headers: Headers) -> bytes:
        """The whole of it.

        Raises Refusal for one that is too large or too slow, and ClientDisconnected.
        """
        body = bytearray()
        stated = headers.get("content-length", "0")
        try:
            if stated.isdecimal() and int(stated) > self._limit:
                self.hold(int(stated))
            async with asyncio.timeout(MAX_SECONDS):
                while True:
                    async with asyncio.timeout(self._patience):
                        message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    body += message.get("body", b"")
                    self.hold(len(body))
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(408, "The body came too slowly. Send it again.") from None
        except DemoError:
            await drain_body(receive, headers, begun=bool(body))
            raise
        return bytes(body)


async def drain_body(receive: Receive, headers: Headers, begun: bool = False) -> None:
    """Read and drop what is left of a refused client's body, for `_DRAIN_SECONDS` at most.

    Most clients look for an answer only once they have sent all. `begun`: some of it was read.
    """
    waits = headers.get("expect", "").lower() == "100-continue" and not begun
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if waits or not has_body:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body"):
                pass


async def send_in_pieces(send: Send, message: Message, patience: float) -> None:
    """Send a part of an answer no faster than it is read.

    Raises ClientDisconnected where none of it is for `patience` seconds.
    """
    body, more = message.get("body", b""), message.get("more_body", False)
    try:
        for start in range(0, max(len(body), 1), _PIECE):
            end = start + _PIECE
            piece = {"body": body[start:end], "more_body": more or end < len(body)}
            async with asyncio.timeout(patience):
                await send({**message, **piece})
    except TimeoutError:
        raise ClientDisconnected from None


async def run_until_disconnect(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, body: bytes
) -> None:
    """Run the app on a body that is here, and stop it when the client hangs up.

    Raises ClientDisconnected.
    """
    gone = asyncio.ensure_future(_hang_up(receive))
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if messages:
            return messages.pop()
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    is_stuck = False

    async def sending(message: Message) -> None:
        nonlocal is_stuck
        try:
            await send(message)
        except ClientDisconnected:
            is_stuck = True
            raise

    running = asyncio.ensure_future(app(scope, replay, sending))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ClientDisconnected
        await running
    except Exception:
        if is_stuck:  # whatever the layers between have made of it
            raise ClientDisconnected from None
        raise
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
