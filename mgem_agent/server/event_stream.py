"""A response of server-sent events, in OpenAI's form: `data: {JSON}`, and `data: [DONE]` at the end.

- **An error before the first event is an HTTP error**, with its status; a later one is an event.
- **A client that disconnects ends the iteration at once**, also while nothing is sent.
- **Comments keep the connection open** while a picture is drawn.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mgem_agent.errors import MgemError
from mgem_agent.server.http_errors import error_body, error_response

__all__ = ["EventStream", "ServerSentEvent"]

PING_S = 15.0
MAX_UNSENT = 64
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx sends each event at once
)

_log = logging.getLogger(__name__)

ServerSentEvent = Mapping[str, Any] | tuple[str, Mapping[str, Any]] | str
"""The data of an event; its name and its data; or text that is sent as data unchanged, such as `[DONE]`."""

_END = object()


class EventStream(Response):
    """A response that sends events as they come.

    Args:
        events: The events. They are closed when the client has disconnected.
        on_error: Returns the last events after an error; by default one with the error.
        ping_s: Seconds of silence after which a comment is sent.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[ServerSentEvent, None],
        *,
        on_error: Callable[[Exception], Sequence[ServerSentEvent]] = lambda error: [error_body(error)[1]],
        ping_s: float = PING_S,
    ) -> None:
        super().__init__()
        self._events = events
        self._on_error = on_error
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client disconnects."""
        queue: asyncio.Queue[Any] = asyncio.Queue(MAX_UNSENT)
        reader = asyncio.create_task(self._read(queue))
        sender = asyncio.create_task(self._send(queue, scope, receive, send))
        watcher = asyncio.create_task(_disconnected(receive))
        tasks = (reader, sender, watcher)
        try:
            await asyncio.wait({sender, watcher}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            # The reader ends only when the thread of its turn has ended.
            await asyncio.gather(*tasks, return_exceptions=True)
        if not sender.cancelled() and (error := sender.exception()) is not None and not isinstance(error, OSError):
            raise error  # an OSError is a client that has disconnected

    async def _read(self, queue: asyncio.Queue[Any]) -> None:
        """Put the events into a queue, and at the end None or the error."""
        try:
            async for event in self._events:
                await queue.put(event)
            await queue.put(_END)
        except Exception as error:
            await queue.put(error)
        finally:
            await self._events.aclose()

    async def _send(self, queue: asyncio.Queue[Any], scope: Scope, receive: Receive, send: Send) -> None:
        first = await queue.get()
        if isinstance(first, MgemError):
            await error_response(first)(scope, receive, send)
            return
        if isinstance(first, Exception):
            raise first
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        item = first
        while item is not _END:
            if isinstance(item, Exception):
                if not isinstance(item, MgemError):
                    _log.error("A stream failed", exc_info=item)
                for event in self._on_error(item):
                    await _send_text(send, _encoded(event))
                break
            await _send_text(send, _encoded(item))
            item = await self._next(queue, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self, queue: asyncio.Queue[Any], send: Send) -> Any:
        while True:
            try:
                return queue.get_nowait()
            except asyncio.QueueEmpty:
                pass
            try:
                return await asyncio.wait_for(queue.get(), self._ping_s)
            except TimeoutError:
                await _send_text(send, ": still working\n\n")


def _encoded(event: ServerSentEvent) -> str:
    """Return an event as text; JSON has no line breaks."""
    if isinstance(event, str):
        return f"data: {event}\n\n"
    name, data = event if isinstance(event, tuple) else ("", event)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode("utf-8", "replace"), "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
