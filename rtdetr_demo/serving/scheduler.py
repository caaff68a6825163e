"""Between many clients and one model: a bounded fair queue, micro-batches, a limit on viewers."""

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
from ..detector.scheduler import FairLock
from ..errors import GOING_DOWN, Busy, TooLarge, TooManyRequests
from ..predictions import Predictions

T = TypeVar("T")

MAX_WAITING_OUTSIDE = 64
"""Tasks that may have released their worker slot at once; see `Queue.slot_released`."""

CLOSE_SECONDS = 5.0
"""Seconds that `Queue.close` waits for running tasks, which may hang on another server."""


@dataclass(frozen=True, eq=False)
class _Task:
    future: Future
    work: Callable[[], Any]
    ticket: str


class Queue:
    """Runs tasks in worker threads, round-robin over clients, and bounds the pictures it holds.

    `capacity`: pictures that may be held at once, in all; `share`: the most of these for one
    client. A picture counts from its admission (`reserve`) until it is answered.
    """

    def __init__(self, capacity: int, share: int):
        self.capacity = capacity
        self.share = share
        self._changed = threading.Condition()
        self._reserved = 0
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Task]] = OrderedDict()
        self._mean_task_seconds = 0.1
        self._closed = False
        self._workers: list[threading.Thread] = []
        self._slots = 0
        self._running = 0
        self._returning = 0
        self._released: Counter[str] = Counter()
        self._thread_local = threading.local()

    def start_workers(self, count: int) -> None:
        """Raise the number of tasks that run at once to `count`; it never falls."""
        with self._changed:
            self._slots = max(self._slots, count)
            self._start_threads()
            self._changed.notify_all()

    def _start_threads(self) -> None:
        while len(self._workers) < self._slots + self._released.total() and not self._closed:
            self._workers.append(threading.Thread(target=self._run, daemon=True))
            self._workers[-1].start()

    @contextmanager
    def slot_released(self, limit: int) -> Iterator[None]:
        """Free the calling task's worker slot for the block, which waits for I/O.

        When the block ends, the task waits for a free slot and goes on. Outside of a task of this
        queue it does nothing. Raises TooManyRequests where `limit` tasks of the same client, or
        `MAX_WAITING_OUTSIDE` of all, have released theirs.
        """
        client: str | None = getattr(self._thread_local, "client", None)
        if client is None:
            yield
            return
        with self._changed:
            if self._released[client] >= limit or self._released.total() >= MAX_WAITING_OUTSIDE:
                raise TooManyRequests(
                    "Too much is waiting for other servers. Try again in a moment.", 5.0
                )
            self._released[client] += 1
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
                self._released -= Counter([client])

    async def ask(self, client: str, work: Callable[[], T], ticket: str = "") -> T:
        """Reserve room for one picture, run `work` in a worker and return its result.

        `ticket`: the client's name for this task, for `ahead`. Raises TooManyRequests where
        there is no room, and what `work` raises.
        """
        with self.reserve([f"address {client}"], 1):
            return await asyncio.wrap_future(self.submit(client, work, ticket))

    def ahead(self, client: str, ticket: str) -> int | None:
        """Number of tasks that will start before this one; None where it is not waiting."""
        with self._changed:
            works = self._waiting.get(client, ())
            position = next((n for n, one in enumerate(works) if one.ticket == ticket), None)
            if position is None:
                return None
            ahead_in_rotation, count = True, position
            for other, theirs in self._waiting.items():
                if other == client:
                    ahead_in_rotation = False
                else:
                    turns = position + 1 if ahead_in_rotation else position
                    count += min(len(theirs), turns)
            return count

    @contextmanager
    def reserve(self, clients: Sequence[str], count: int) -> Iterator[None]:
        """Count `count` pictures against the capacity, and the share of each of `clients`, for
        the block.

        Raises TooManyRequests where they do not fit now, TooLarge where they never will.
        """
        limit = min(self.share, self.capacity)
        if count > limit:
            raise TooLarge(f"One request takes {limit} pictures here. Send the others in another.")
        with self._changed:
            full = self._reserved + count > self.capacity
            if full or any(self._held[client] + count > self.share for client in clients):
                wait = min(max(self._reserved * self._mean_task_seconds, 1.0), 30.0)
                raise TooManyRequests(
                    "More pictures are waiting here than can be taken on. "
                    f"Send this again in {math.ceil(wait)} s.",
                    wait,
                )
            self._reserved += count
            self._held.update(dict.fromkeys(clients, count))
        metrics.QUEUE_PICTURES.inc(count)
        try:
            yield
        finally:
            metrics.QUEUE_PICTURES.dec(count)
            with self._changed:
                self._reserved -= count
                self._held.subtract(dict.fromkeys(clients, count))
                self._held += Counter()  # forgets clients that hold nothing
                self._changed.notify_all()

    def submit(self, client: str, work: Callable[[], T], ticket: str = "") -> "Future[T]":
        """Append `work` to this client's tasks; it runs in the caller's context (`contextvars`).

        Cancelling the future before it starts removes it. Raises Busy once the queue is closed.
        """
        future: Future[T] = Future()
        in_context = functools.partial(contextvars.copy_context().run, work)
        with self._changed:
            if self._closed:
                raise Busy(GOING_DOWN)
            self._waiting.setdefault(client, deque()).append(_Task(future, in_context, ticket))
            self._changed.notify_all()
        future.add_done_callback(lambda done: self._forget(client, done))
        return future

    def _forget(self, client: str, future: Future) -> None:
        """Remove a cancelled task at once: it keeps a picture in memory."""
        if not future.cancelled():
            return
        with self._changed:
            left = deque(one for one in self._waiting.get(client, ()) if one.future is not future)
            if left:
                self._waiting[client] = left
            else:
                self._waiting.pop(client, None)

    def close(self) -> None:
        """Fail waiting and further tasks with Busy; wait `CLOSE_SECONDS` for running ones."""
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
        while taken := self._next_task():
            client, task = taken
            self._thread_local.client = client
            began = time.monotonic()
            if task.future.set_running_or_notify_cancel():
                try:
                    task.future.set_result(task.work())
                except BaseException as error:
                    task.future.set_exception(error)
            with self._changed:
                took = (time.monotonic() - began) / self._slots
                self._mean_task_seconds += 0.1 * (took - self._mean_task_seconds)
                self._running -= 1
                self._changed.notify_all()
            del taken, task  # an idle worker must not hold the last picture

    def _next_task(self) -> tuple[str, _Task] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._waiting and self._has_room()))
            if self._closed:
                return None
            client, works = self._waiting.popitem(last=False)
            task = works.popleft()
            if works:
                self._waiting[client] = works  # behind everyone else
            self._running += 1
            return client, task

    def _has_room(self) -> bool:
        return self._running + self._returning < self._slots


@dataclass(eq=False)
class _PendingRequest:
    image: Image.Image
    key: Hashable
    answer: "Future[Predictions]" = field(default_factory=Future)


class MicroBatcher:
    """Runs requests that wait for the model at the same time as one batch.

    `detect(images, *key)` returns the predictions of each picture; `passes`: how many such calls
    run at once. With `passes` > 1, `max_batch` must be 1. To the device's lock all requests
    together are one contender, so that the API does not crowd out the page and its live viewers.
    """

    def __init__(self, detect: Callable[..., list[Predictions]], passes: int = 1):
        self._detect = detect
        self._pass_lock = FairLock() if passes == 1 else threading.Semaphore(passes)
        self._guard = threading.Lock()
        self._waiting: list[_PendingRequest] = []

    def detect(self, image: Image.Image, max_batch: int, *key: Hashable) -> Predictions:
        """Predictions for one picture, run in a batch of at most `max_batch` with the same `key`.

        Raises what `detect` raises for the batch.
        """
        request = _PendingRequest(image, key)
        with self._guard:
            self._waiting.append(request)
        began = time.perf_counter()
        with self._pass_lock:
            metrics.STAGE_SECONDS.labels("batch_wait").observe(time.perf_counter() - began)
            if not request.answer.done():
                self._run(self._form_batch(request, max_batch))
        return request.answer.result()

    def _form_batch(self, request: _PendingRequest, max_batch: int) -> list[_PendingRequest]:
        with self._guard:
            alike = [one for one in self._waiting if one.key == request.key and one is not request]
            # Powers of two: a card keeps one recorded graph for each size of a batch.
            size = 2 ** int(math.log2(min(max_batch, len(alike) + 1)))
            batch = [request, *alike[: size - 1]]
            self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _run(self, batch: list[_PendingRequest]) -> None:
        try:
            found = self._detect([one.image for one in batch], *batch[0].key)  # type: ignore[misc]
        except BaseException as error:
            for one in batch:
                one.answer.set_exception(error)
        else:
            for one, predictions in zip(batch, found, strict=True):
                one.answer.set_result(predictions)


class ViewerLimiter:
    """Live viewers: at most `limit`, a quarter of them from one address, each with one frame under
    way.

    A viewer who sends nothing for `idle_seconds` has left.
    """

    def __init__(self, limit: int, idle_seconds: float = 5.0):
        self._limit = limit
        self._share = max(1, limit // 4)
        self._idle_seconds = idle_seconds
        self._guard = threading.Lock()
        self._seen: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._addresses: dict[str, str | None] = {}

    def begin_frame(self, viewer: str, address: str | None = None) -> None:
        """Register a frame of this viewer, at `address` (None: this machine), as under way.

        Raises Busy where the viewer's frame before is not answered, or the limit is reached.
        """
        now = time.monotonic()
        with self._guard:
            self._seen = {
                name: seen
                for name, seen in self._seen.items()
                if now - seen < self._idle_seconds or name in self._under_way
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

    def end_frame(self, viewer: str) -> None:
        """Register that this viewer's frame is answered."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen[viewer] = time.monotonic()

    def remove_viewer(self, viewer: str) -> None:
        """Remove this viewer, without waiting for `idle_seconds`."""
        with self._guard:
            self._under_way.discard(viewer)
            self._seen.pop(viewer, None)

    def __len__(self) -> int:
        return len(self._seen)
