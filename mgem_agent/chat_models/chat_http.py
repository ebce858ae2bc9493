"""The HTTP clients of chat models that speak OpenAI's protocol: limits as for every server, and careful repetitions.

The vendor's package limits each read alone and repeats a request whose answer broke off or was too slow, although it
may have been answered, and charged, already. Here the time-out holds for the whole answer, and a request is repeated
only where it was not carried out: the server could not be reached, or said that it is busy.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import anyio
import httpx

from mgem_agent.tools.servers.http_client import asked_pause_s
from mgem_agent.tools.servers.http_exchange import BoundedTransport

__all__ = ["chat_clients"]

TIMEOUT_S = 1800.0
"""Seconds for an answer where nobody says how long; a laptop writes a long one for many minutes."""

BUSY_STATUSES = frozenset({429, 503})
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
DEFAULT_MAX_RETRIES = 2

T = TypeVar("T")


def chat_clients(max_retries: int | None = None) -> dict[str, Any]:
    """Return the options that give LangChain's `ChatOpenAI` clients with limits.

    Args:
        max_retries: How often a request that was not carried out is repeated.
    """
    transport = _ChatTransport(DEFAULT_MAX_RETRIES if max_retries is None else max_retries)
    options: dict[str, Any] = {"timeout": TIMEOUT_S, "follow_redirects": True}
    return {
        "http_client": httpx.Client(transport=transport, **options),
        "http_async_client": httpx.AsyncClient(transport=_InThreads(transport), **options),
        "max_retries": 0,
    }


class _ChatTransport(BoundedTransport):
    """Repeats what was not carried out."""

    def __init__(self, max_retries: int) -> None:
        super().__init__()
        self._max_retries = max_retries

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = self.exchange_of(request)
        request.extensions = {**request.extensions, **exchange.extensions}
        for attempt in range(self._max_retries + 1):
            pause_s = FIRST_PAUSE_S * 2**attempt
            try:
                answer = super().handle_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if attempt == self._max_retries or pause_s > exchange.left_s():
                    raise
            else:
                pause_s = asked_pause_s(answer.headers, default=pause_s)
                if answer.status_code not in BUSY_STATUSES or attempt == self._max_retries:
                    return answer
                if pause_s > min(MAX_PAUSE_S, exchange.left_s()):
                    return answer
                answer.close()
            exchange.pause(pause_s)
        raise RuntimeError("the last attempt returns or raises")  # for type checkers


class _InThreads(httpx.AsyncBaseTransport):
    """The same for an event loop: what blocks runs in threads."""

    def __init__(self, transport: BoundedTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        plain = httpx.Request(
            request.method, request.url, headers=request.headers, content=content, extensions=request.extensions
        )
        stop = threading.Event()
        exchange = self._transport.exchange_of(plain)
        exchange.cancel = stop
        plain.extensions = {**plain.extensions, **exchange.extensions}
        answer = await _in_thread(lambda: self._transport.handle_request(plain), stop)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_AsyncBody(answer, stop),
            extensions={name: value for name, value in answer.extensions.items() if name != "network_stream"},
        )


class _AsyncBody(httpx.AsyncByteStream):
    """The body of an answer, each piece read in a thread."""

    def __init__(self, answer: httpx.Response, stop: threading.Event) -> None:
        self._answer = answer
        self._stop = stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._answer.iter_raw()
        while (piece := await _in_thread(lambda: next(pieces, None), self._stop)) is not None:
            yield piece

    async def aclose(self) -> None:
        self._answer.close()


async def _in_thread(call: Callable[[], T], stop: threading.Event) -> T:
    """Run what blocks; when the task is cancelled, the exchange is ended."""
    try:
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    except BaseException:
        stop.set()
        raise
