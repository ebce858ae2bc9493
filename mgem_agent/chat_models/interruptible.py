"""Read an answer in a way that can be cancelled while its server is silent.

A chat model's stream blocks until the next piece arrives, which may be never. So it is read in a separate thread, which
is abandoned on cancellation. If the model uses this package's HTTP client, its connection is also closed, so that the
server stops generating.
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
    """Yield the items of an iterator until an event is set.

    Args:
        start: Creates the iterator; called in the reading thread, with the caller's context variables.
        cancel: When it is set, the iteration ends at once without an error.

    Yields:
        The iterator's items. Its exceptions are raised here.
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
    """Put the items of an iterator into a queue, then its exception or None."""
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
    except BaseException as error:  # it is raised again in the consumer's thread
        pieces.put(error)
    else:
        pieces.put(None)
