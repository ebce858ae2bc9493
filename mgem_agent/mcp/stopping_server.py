"""The HTTP server of `mgem mcp --http`: it ends open streams when it is told to stop, so that they do not delay it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

__all__ = ["StoppingServer"]


class StoppingServer(uvicorn.Server):
    """A server that ends open streams when it is told to stop.

    Args:
        config: As for `uvicorn.Server`.
        on_stop: Ends the streams; called on the event loop.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_stop)
        super().handle_exit(sig, frame)
