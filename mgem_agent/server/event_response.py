"""Server-sent events in OpenAI's form: the event's name is the `type` of its data.

The first event is awaited before the response begins, so that a request that is refused gets a status of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent

from mgem_agent.errors import MgemError

__all__ = ["event_response"]

PING_S = 15
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_log = logging.getLogger(__name__)


async def event_response(
    events: AsyncGenerator[dict[str, Any], None], on_error: Callable[[Exception], list[dict[str, Any]]]
) -> EventSourceResponse:
    """Return a response that streams events.

    Args:
        events: The events; closed when the client disconnects.
        on_error: Returns the last events after an error. Before the first event, the error is raised instead.

    Raises:
        MgemError: If there is an error before the first event.
    """
    first = await anext(events)

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async with aclosing(events):
            yield _sent(first)
            try:
                async for event in events:
                    yield _sent(event)
            except Exception as error:
                if not isinstance(error, MgemError):
                    _log.error("A stream failed", exc_info=error)
                for event in on_error(error):
                    yield _sent(event)

    return EventSourceResponse(stream(), ping=PING_S, sep="\n", headers=HEADERS)


def _sent(event: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(event, ensure_ascii=False), event=str(event["type"]), sep="\n")
