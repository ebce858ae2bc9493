"""Complete event streams that are ended by the stop of a server; uvicorn logs an error for each that is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["CompleteStreams"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class CompleteStreams:
    """Sends the end of a response whose application has returned without it.

    sse-starlette ends its streams in this way when the server is being stopped.

    Args:
        app: The application.
    """

    def __init__(self, app: Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = is_complete = False

        async def noted(message: Message) -> None:
            nonlocal has_begun, is_complete
            has_begun = has_begun or message["type"] == "http.response.start"
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        await self._app(scope, receive, noted)
        if has_begun and not is_complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
