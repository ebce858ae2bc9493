"""Streams of events between deployments of Ray Serve: errors travel as events, and cancelling reaches the replica.

Both ends are here: `serve_stream` runs a blocking generator within a replica, and `read_stream` reads its events in a
thread of the gateway.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any

from mgem_agent.agent.async_bridge import in_thread
from mgem_agent.errors import MgemError, ToolError

__all__ = ["as_our_error", "read_stream", "serve_stream"]

CANCEL_CHECK_S = 0.05


async def serve_stream(start: Callable[[threading.Event], Iterable[Any]]) -> AsyncIterator[Any]:
    """Run a generator in a thread, and yield its events; an error is the last one.

    Args:
        start: Creates the generator. The event is set when the caller has cancelled.
    """
    cancel = threading.Event()

    def events() -> Generator[Any, None, None]:
        try:
            yield from start(cancel)
        except Exception as error:  # the caller raises it
            yield as_our_error(error)

    async for event in in_thread(events, cancel.set):
        yield event


def read_stream(response: Any, is_cancelled: Callable[[], bool]) -> Iterator[Any]:
    """Yield the events of a replica, until the end or until it is cancelled.

    Args:
        response: The streaming response of a handle.
        is_cancelled: Whether the caller has cancelled.

    Raises:
        MgemError: That of the replica.
        ToolError: If the replica was lost.
    """
    events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        try:
            for event in response:
                events.put(("event", event))
        except BaseException as error:  # raised below, in the thread that waits
            events.put(("lost", error))
        else:
            events.put(("end", None))

    threading.Thread(target=read, name="mgem-agent deployment", daemon=True).start()
    try:
        while not is_cancelled():
            try:
                kind, event = events.get(timeout=CANCEL_CHECK_S)
            except queue.Empty:
                continue
            if kind == "end":
                return
            if kind == "lost":
                raise as_our_error(event)
            if isinstance(event, MgemError):
                raise event
            yield event
    finally:
        response.cancel()


def as_our_error(error: BaseException) -> MgemError:
    """Return an error of this package; any other is described by a `ToolError`."""
    if isinstance(error, MgemError):
        return error
    return ToolError(f"A replica failed ({type(error).__name__}: {error}). Send the request again.", retryable=True)
