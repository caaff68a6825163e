"""Worker threads that serve their clients in turns."""

import contextvars
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import GOING_DOWN, Busy
from ..fair_queue import FairQueue

T = TypeVar("T")


@dataclass(eq=False)
class _Task:
    work: Callable[[], Any]
    future: Future = field(default_factory=Future)


class FairPool:
    """Runs functions in threads, round-robin over clients.

    Args:
        workers: Number of threads.
        share: Most functions of one client that run at once.
        name: Prefix of the threads' names.
    """

    def __init__(self, workers: int, share: int, name: str):
        self._share = share
        self._queue: FairQueue[_Task] = FairQueue()
        self._guard = threading.Lock()
        self._running: Counter[str] = Counter()
        for number in range(workers):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def submit(self, client: str, work: Callable[[], T]) -> "Future[T]":
        """Run `work` in a thread, in the caller's context, when it is the client's turn.

        Cancelling the future removes a function that has not started. The future fails with Busy
        once the pool is closed.
        """
        context = contextvars.copy_context()
        task = _Task(lambda: context.run(work))
        task.future.add_done_callback(
            lambda future: self._queue.remove(task) if future.cancelled() else None
        )
        if not self._queue.put(client, task):
            task.future.set_exception(Busy(GOING_DOWN))
        return task.future

    def close(self) -> None:
        """Fail what waits with Busy. Does not wait for functions that run."""
        for task in self._queue.close():
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(Busy(GOING_DOWN))

    def _fits(self, client: str, _: _Task) -> bool:
        with self._guard:
            if self._running[client] >= self._share:
                return False
            self._running[client] += 1  # `take` removes the item of the first client that fits
            return True

    def _run(self) -> None:
        while taken := self._queue.take(self._fits):
            client, task = taken
            if task.future.set_running_or_notify_cancel():
                try:
                    task.future.set_result(task.work())
                except BaseException as error:
                    task.future.set_exception(error)
            with self._guard:
                self._running -= Counter([client])
            self._queue.wake()
            del taken, task  # a thread that waits must not keep the last result alive
