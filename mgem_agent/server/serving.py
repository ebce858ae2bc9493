"""Run the server until it is told to stop, and stop it without losing anything.

At SIGTERM or Ctrl-C, no new request is accepted, waiting ones are handed back with status 503 and `Retry-After`, and
running ones have `drain_s` seconds to finish. After that they are cancelled: pictures that are drawn by then are
stored, and an unfinished turn of a saved session can be resumed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn

from mgem_agent.errors import InputError
from mgem_agent.server.app import Mount, create_app
from mgem_agent.server.request_log import configure_log
from mgem_agent.server.service import AgentService

__all__ = ["GracefulServer", "serve"]

SPARE_S = 10
"""Seconds for the responses of cancelled requests, after `drain_s`."""


class GracefulServer(uvicorn.Server):
    """A server that hands back what waits, and lets finish what runs.

    Args:
        config: As for `uvicorn.Server`.
        service: The parts of the server.
        on_ready: Called with the server's address when it accepts requests.
        on_stop: Called when the server begins to stop.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: AgentService,
        on_ready: Callable[[str], None],
        on_stop: Sequence[Callable[[], object]] = (),
    ) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._service = service
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[int] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = self.config.host
            self._on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal stops at once."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain)
        super().handle_exit(sig, frame)

    def _drain(self) -> None:
        if self._draining is None:
            for stop in self._on_stop:
                stop()
            jobs, settings = self._service.jobs, self._service.settings
            self._draining = asyncio.ensure_future(jobs.drain(settings.drain_s))


def serve(
    service: AgentService, on_ready: Callable[[str], None], *, mounts: Sequence[Mount] = (), **options: Any
) -> None:
    """Run a server until SIGTERM or Ctrl-C.

    Args:
        service: The parts of the server.
        on_ready: Called with the server's address when it accepts requests.
        mounts: Further applications.
        **options: Options of `uvicorn.Config`.

    Raises:
        InputError: If the address cannot be used.
    """
    settings = service.settings
    config = uvicorn.Config(
        create_app(service, mounts),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.drain_s) + SPARE_S,
        **options,
    )
    _check_address(settings.host, settings.port)
    configure_log(settings.log)
    on_stop = [each.on_stop for each in mounts if each.on_stop is not None]
    GracefulServer(config, service, on_ready, on_stop).run()


def _check_address(host: str, port: int) -> None:
    """Check that the address is free, because uvicorn would only log it and exit."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"The server cannot listen on {host}:{port}: {reason}. Choose another port with --port, or 0 for any free "
            "one."
        ) from error
