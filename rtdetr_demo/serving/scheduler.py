"""What stands between many clients and one model: a bounded queue, and passes that are shared."""

import asyncio
import contextvars
import functools
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL import Image

from .. import metrics
from ..errors import Busy, Overloaded, TooLarge
from ..model.scheduler import FairLock
from ..predictions import Predictions

T = TypeVar("T")

GOING_DOWN = "This server is going down. Send this to it again in a moment."


MAX_ASIDE = 64
"""Pieces of work that may be waiting for another server, or for a checkpoint, at once."""


CLOSE_SECONDS = 5.0
"""How long closing waits for what runs, which may be another server's to end."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    future: Future
    work: Callable[[], Any]
    ticket: str


class Queue:
    """Runs work in a few threads, its workers, taking its clients by turns.

    `capacity` places in all, `share` of them for one client: a picture holds its place from the
    moment it is admitted until it is answered, so that memory and waiting are bounded.
    """

    def __init__(self, capacity: int, share: int):
        self.capacity = capacity
        self.share = share
        self._changed = threading.Condition()
        self._taken = 0
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._pace = 0.1
        self._closed = False
        self._workers: list[threading.Thread] = []
        self._slots = 0
        self._running = 0
        self._returning = 0
        self._aside: Counter[str] = Counter()
        self._own = threading.local()

    def start_workers(self, count: int) -> None:
        """Let `count` pieces of work run at once, or more if that has been said before."""
        with self._changed:
            self._slots = max(self._slots, count)
            self._start_threads()
            self._changed.notify_all()

    def _start_threads(self) -> None:
        while len(self._workers) < self._slots + self._aside.total() and not self._closed:
            self._workers.append(threading.Thread(target=self._run, daemon=True))
            self._workers[-1].start()

    @contextmanager
    def aside(self, own: int) -> Iterator[None]:
        """Let other work run while this waits for something other than the processor.

        For work of this queue, which then runs on once there is room again; elsewhere it does
        nothing. Raises Overloaded where `own` pieces of the same client's work stand aside.
        """
        client: str | None = getattr(self._own, "client", None)
        if client is None:
            yield
            return
        with self._changed:
            if self._aside[client] >= own or self._aside.total() >= MAX_ASIDE:
                raise Overloaded(
                    "Too much is waiting for other servers. Try again in a moment.", 5.0
                )
            self._aside[client] += 1
            self._running -= 1
            self._start_threads()
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._returning += 1
                self._changed.wait_for(lambda: self._running < self._slots or self._closed)
                self._returning -= 1
                self._running += 1
                self._aside -= Counter([client])

    async def ask(self, client: str, work: Callable[[], T], ticket: str = "") -> T:
        """Hold a place for `work`, run it in this client's turn, and give what it gives.

        `ticket`: the client's own name for it, by which `ahead` finds it. Raises Overloaded where
        there is no place, and what `work` raises.
        """
        with self.places([f"address {client}"], 1):
            return await asyncio.wrap_future(self.submit(client, work, ticket))

    def ahead(self, client: str, ticket: str) -> int | None:
        """How many pieces of work will run before this one; None where it does not wait."""
        with self._changed:
            works = self._waiting.get(client, ())
            mine = next((n for n, one in enumerate(works) if one.ticket == ticket), None)
            if mine is None:
                return None
            before, count = True, mine
            for other, theirs in self._waiting.items():
                if other == client:
                    before = False
                else:
                    count += min(len(theirs), mine + before)
            return count

    @contextmanager
    def places(self, clients: Sequence[str], count: int) -> Iterator[None]:
        """Hold `count` places on the account of each of `clients`.

        Raises Overloaded where so many are not free, and TooLarge where they never will be.
        """
        most = min(self.share, self.capacity)
        if count > most:
            raise TooLarge(f"One request takes {most} pictures here. Send the others in another.")
        with self._changed:
            full = self._taken + count > self.capacity
            if full or any(self._held[client] + count > self.share for client in clients):
                wait = min(max(self._taken * self._pace, 1.0), 30.0)
                raise Overloaded(
                    "More pictures are waiting here than can be taken on. "
                    f"Send this again in {math.ceil(wait)} s.",
                    wait,
                )
            self._taken += count
            self._held.update(dict.fromkeys(clients, count))
        metrics.QUEUE_PICTURES.inc(count)
        try:
            yield
        finally:
            metrics.QUEUE_PICTURES.dec(count)
            with self._changed:
                self._taken -= count
                self._held.subtract(dict.fromkeys(clients, count))
                self._held += Counter()  # forgets clients that hold nothing
                self._changed.notify_all()

    def submit(self, client: str, work: Callable[[], T], ticket: str = "") -> "Future[T]":
        """Run `work` in this client's turn, in the caller's context (`contextvars`).

        Cancelling the future before that takes it out.
        """
        future: Future[T] = Future()
        in_context = functools.partial(contextvars.copy_context().run, work)
        with self._changed:
            if self._closed:
                raise Busy(GOING_DOWN)
            self._waiting.setdefault(client, deque()).append(_Waiting(future, in_context, ticket))
            self._changed.notify_all()
        future.add_done_callback(lambda done: self._forget(client, done))
        return future

    def _forget(self, client: str, future: Future) -> None:
        """What was cancelled holds a picture, and must not wait for a worker to be let go."""
        if not future.cancelled():
            return
        with self._changed:
            left = deque(one for one in self._waiting.get(client, ()) if one.future is not future)
            if left:
                self._waiting[client] = left
            else:
                self._waiting.pop(client, None)

    def close(self) -> None:
        """Let what runs end, and refuse what waits."""
        with self._changed:
            self._closed = True
            waiting = [one.future for works in self._waiting.values() for one in works]
            self._waiting.clear()
            self._changed.notify_all()
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(Busy(GOING_DOWN))
        end = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers:
            worker.join(max(end - time.monotonic(), 0))

    def _run(self) -> None:
        while taken := self._take():
            client, waiting = taken
            self._own.client = client
            began = time.monotonic()
            if waiting.future.set_running_or_notify_cancel():
                try:
                    waiting.future.set_result(waiting.work())
                except BaseException as error:
                    waiting.future.set_exception(error)
            with self._changed:
                took = (time.monotonic() - began) / self._slots
                self._pace += 0.1 * (took - self._pace)
                self._running -= 1
                self._changed.notify_all()
            del taken, waiting  # an idle worker must not hold the last picture

    def _take(self) -> tuple[str, _Waiting] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._waiting and self._has_room()))
            if self._closed:
                return None
            client, works = self._waiting.popitem(last=False)
            taken = works.popleft()
            if works:
                self._waiting[client] = works  # behind everyone else
            self._running += 1
            return client, taken

    def _has_room(self) -> bool:
        return self._running + self._returning < self._slots


@dataclass(eq=False)
class _Asked:
    image: Image.Image
    key: Hashable
    answer: "Future[Predictions]" = field(default_factory=Future)


class MicroBatcher:
    """Pictures that wait for the model at the same time go through it together.

    All of the API stands in the model's line as one visitor, so that it cannot crowd out the page
    and its live viewers; with `passes` above 1 it may do so many at once. `detect(images, *key)`
    gives the predictions of each picture.
    """

    def __init__(self, detect: Callable[..., list[Predictions]], passes: int = 1):
        self._detect = detect
        self._seat = FairLock() if passes == 1 else threading.Semaphore(passes)
        self._guard = threading.Lock()
        self._waiting: list[_Asked] = []

    def detect(self, image: Image.Image, most: int, *key: Hashable) -> Predictions:
        """Detect in one picture, beside up to `most` - 1 others that ask for the same `key`."""
        mine = _Asked(image, key)
        with self._guard:
            self._waiting.append(mine)
        began = time.perf_counter()
        with self._seat:
            metrics.STAGE_SECONDS.labels("seat").observe(time.perf_counter() - began)
            if not mine.answer.done():
                self._run(self._together(mine, most))
        return mine.answer.result()

    def _together(self, mine: _Asked, most: int) -> list[_Asked]:
        with self._guard:
            alike = [one for one in self._waiting if one.key == mine.key and one is not mine]
            # Powers of two: a card keeps one recorded graph for each size of a batch.
            size = 2 ** int(math.log2(min(most, len(alike) + 1)))
            taken = [mine, *alike[: size - 1]]
            self._waiting = [one for one in self._waiting if one not in taken]
        return taken

    def _run(self, taken: list[_Asked]) -> None:
        try:
            found = self._detect([one.image for one in taken], *taken[0].key)  # type: ignore[misc]
        except BaseException as error:
            for one in taken:
                one.answer.set_exception(error)
        else:
            for one, predictions in zip(taken, found, strict=True):
                one.answer.set_result(predictions)


class ViewerLimiter:
    """Live viewers: at most `limit`, a quarter of them from one address, each with one frame under
    way.

    A viewer who sends nothing for `patience` seconds has left.
    """

    def __init__(self, limit: int, patience: float = 5.0):
        self._limit = limit
        self._share = max(1, limit // 4)
        self._patience = patience
        self._guard = threading.Lock()
        self._seen: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._addresses: dict[str, str | None] = {}

    def arrive(self, viewer: str, address: str | None = None) -> None:
        """A frame of this viewer begins, who watches from `address`; None: from this machine.

        Raises Busy where there is no place for it.
        """
        now = time.monotonic()
        with self._guard:
            self._seen = {
                name: seen
                for name, seen in self._seen.items()
                if now - seen < self._patience or name in self._under_way
            }
            if viewer in self._under_way:
                raise Busy("This viewer's frame before is not answered yet: one at a time.")
            if viewer not in self._seen and len(self._seen) >= self._limit:
                raise Busy(
                    f"{self._limit} people are watching live, which is all that this machine "
                    "serves at once. This page tries again by itself."
                )
            self._addresses = {name: self._addresses.get(name) for name in self._seen}
            neighbours = sum(one == address for one in self._addresses.values())
            if address and viewer not in self._seen and neighbours >= self._share:
                raise Busy(
                    f"{neighbours} people are watching live from your address, which is its share. "
                    "This page tries again by itself."
                )
            self._seen[viewer] = now
            self._addresses[viewer] = address
            self._under_way.add(viewer)

    def leave(self, viewer: str) -> None:
        """The frame of this viewer is answered."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen[viewer] = time.monotonic()

    def forget(self, viewer: str) -> None:
        """This viewer has gone, and their place is free at once."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen.pop(viewer, None)

    def __len__(self) -> int:
        return len(self._seen)
