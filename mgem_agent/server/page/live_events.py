"""Send what runs in the background to a browser as server-sent events, for htmx's extension.

Each `update` has the parts that changed, as elements that htmx puts in place by their ids. `done` ends the stream: the
page then loads the finished state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent

from mgem_agent.server.page.live import Live
from mgem_agent.server.page.rendering import POLICY

__all__ = ["live_response"]

PING_S = 15
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Security-Policy": POLICY}


def live_response(live: Live | None, render: Callable[..., str]) -> EventSourceResponse:
    """Return the stream of a run; one that does not exist has ended.

    Args:
        live: The run.
        render: Renders a template by its name, with variables.
    """

    async def events() -> AsyncIterator[ServerSentEvent]:
        if live is not None:
            first = True
            async for changes in live.watch():
                variables: dict[str, Any] = {"live": live, "changes": changes, "is_first": first, "editable": False}
                yield ServerSentEvent(render("_live_update.html", **variables), event="update")
                first = False
        yield ServerSentEvent("done", event="done")

    return EventSourceResponse(events(), ping=PING_S, headers=HEADERS)
