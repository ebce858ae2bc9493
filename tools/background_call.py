"""A call in a thread of its own, which nobody has to wait for.

The threads are daemons: one that hangs on a dead server holds up neither the end of the program nor the drawing of the
next picture, as the workers of `concurrent.futures` would.
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
        function: What to call; what it returns or raises is in the future.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # it belongs to whoever asks for the result, and to nobody else
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
    """Run calls side by side, a few at a time, and yield each as it ends.

    Args:
        functions: What to call.
        max_parallel: How many run at once.
        cancel: When it is set, no further call is started and those that run are left behind.
        poll_s: Seconds between two looks at `cancel`.

    Yields:
        The place of a call in `functions`, and its finished future.
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
