"""Server-sent events whose name is the `type` of their data, as OpenAI's images and responses have them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from mgem_agent.server.event_stream import EventStream, ServerSentEvent

__all__ = ["event_response"]


async def event_response(
    events: AsyncGenerator[dict[str, Any], None], on_error: Callable[[Exception], list[dict[str, Any]]]
) -> EventStream:
    """Return a response that streams events.

    Args:
        events: The events; closed when the client disconnects.
        on_error: Returns the last events after an error. An error before the first event is an HTTP error instead.
    """
    return EventStream(_named(events), on_error=lambda error: [_with_name(event) for event in on_error(error)])


async def _named(events: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[ServerSentEvent, None]:
    async with aclosing(events):
        async for event in events:
            yield _with_name(event)


def _with_name(event: dict[str, Any]) -> ServerSentEvent:
    return str(event["type"]), event
