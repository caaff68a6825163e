"""Futures that follow one another."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def chain(future: Future, following: "Callable[[Any], Future[T]]") -> "Future[T]":
    """Start `following` with the result of `future`, without waiting.

    Returns:
        A future of the result of the future that `following` returns. It fails where either fails;
        cancelling it cancels the one that is under way.
    """
    outcome: Future[T] = Future()
    current: list[Future] = [future]

    def settle(last: Future) -> None:
        if not outcome.done():
            with suppress(InvalidStateError):
                error = None if last.cancelled() else last.exception()
                if last.cancelled():
                    outcome.cancel()
                elif error is not None:
                    outcome.set_exception(error)
                else:
                    outcome.set_result(last.result())

    def go_on(first: Future) -> None:
        if first.cancelled() or first.exception() is not None or outcome.done():
            settle(first)
            return
        try:
            current[0] = following(first.result())
        except BaseException as error:
            outcome.set_exception(error)
            return
        current[0].add_done_callback(settle)

    def cancel(done: Future) -> None:
        if done.cancelled():
            current[0].cancel()

    future.add_done_callback(go_on)
    outcome.add_done_callback(cancel)
    return outcome
