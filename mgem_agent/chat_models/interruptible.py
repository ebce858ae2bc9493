"""An answer that can be given up while its server is silent.

A chat model's stream blocks until the next piece comes, which may be never. It is read in a thread of its own, and left
behind when it is no longer wanted; where the model's HTTP client is ours, its connection is closed as well, so that the
server stops writing.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from mgem_agent.tools.servers.http_exchange import end_exchanges_with

__all__ = ["interruptible"]

POLL_S = 0.05

T = TypeVar("T")


def interruptible(start: Callable[[], Iterator[T]], cancel: threading.Event) -> Generator[T, None, None]:
    """Yield what an iterator yields, until an event is set.

    Args:
        start: Makes the iterator; called in the thread that reads it, with the caller's context variables.
        cancel: When it is set, the iteration ends at once and without an error.

    Yields:
        What the iterator yields; what it raises is raised here.
    """
    stop = threading.Event()
    pieces: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    context = contextvars.copy_context()

    def read() -> None:
        context.run(lambda: _read(start, stop, pieces))

    threading.Thread(target=read, name="mgem-agent answer", daemon=True).start()
    try:
        while not cancel.is_set():
            try:
                piece = pieces.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece[0]
    finally:
        stop.set()


def _read(
    start: Callable[[], Iterator[T]],
    stop: threading.Event,
    pieces: queue.SimpleQueue[tuple[T] | BaseException | None],
) -> None:
    """Put what an iterator yields into a queue, then what it raises, or None."""
    end_exchanges_with(stop)
    try:
        items = start()
        try:
            for item in items:
                if stop.is_set():
                    break
                pieces.put((item,))
        finally:
            if callable(close := getattr(items, "close", None)):
                close()
    except BaseException as error:  # it is raised in the thread of whoever listens
        pieces.put(error)
    else:
        pieces.put(None)
