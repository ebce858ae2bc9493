"""Run a function in a daemon thread.

A daemon thread that hangs on a dead server does not keep the program from ending, and does not delay the next picture.
The workers of `concurrent.futures` would do both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

__all__ = ["call_in_background", "call_in_parallel"]

T = TypeVar("T")


def call_in_background(function: Callable[[], T]) -> Future[T]:
    """Start a call in a daemon thread.

    Args:
        function: The function to call. The future holds its return value or its exception.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # the caller gets it from the future
            future.set_exception(error)

    threading.Thread(target=run, name="mgem-agent background call", daemon=True).start()
    return future


def call_in_parallel(
    functions: Sequence[Callable[[], T]],
    *,
    max_parallel: int,
    cancel: threading.Event | None = None,
    poll_s: float = 0.05,
) -> Iterator[tuple[int, Future[T]]]:
    """Run calls in parallel, a few at a time, and yield each one as it finishes.

    Args:
        functions: The functions to call.
        max_parallel: Maximum number of calls that run at once.
        cancel: When it is set, no further call starts and running calls are no longer waited for.
        poll_s: Seconds between two checks of `cancel`.

    Yields:
        The index of a call in `functions`, and its finished future.
    """
    running: dict[Future[T], int] = {}
    waiting = list(enumerate(functions))[::-1]
    while running or waiting:
        while waiting and len(running) < max_parallel and not (cancel and cancel.is_set()):
            index, function = waiting.pop()
            running[call_in_background(function)] = index
        finished, _ = wait(running, timeout=poll_s, return_when=FIRST_COMPLETED)
        for future in sorted(finished, key=running.__getitem__):
            yield running.pop(future), future
        if cancel and cancel.is_set() and not finished:
            return
