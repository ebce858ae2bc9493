"""HTTP clients for chat models with an OpenAI-compatible API: the common limits, and safe retries.

The vendor's package applies its timeout to each read, and retries a request whose response was interrupted or slow,
although it may have been answered and charged already. Here the timeout applies to the whole response, and a request is
retried only if it was not processed: the server could not be reached, or reported that it is busy.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import anyio
import httpx

from mgem_agent.tools.servers.http_client import asked_pause_s
from mgem_agent.tools.servers.http_transport import BoundedTransport

__all__ = ["chat_clients"]

TIMEOUT_S = 1800.0
"""Default time limit of an answer in seconds; a long answer on a laptop takes many minutes."""

BUSY_STATUSES = frozenset({429, 503})
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
DEFAULT_MAX_RETRIES = 2

T = TypeVar("T")


def chat_clients(max_retries: int | None = None) -> dict[str, Any]:
    """Return options of LangChain's `ChatOpenAI` that set HTTP clients with limits.

    Args:
        max_retries: Maximum retries of a request that was not processed.
    """
    transport = _ChatTransport(DEFAULT_MAX_RETRIES if max_retries is None else max_retries)
    options: dict[str, Any] = {"timeout": TIMEOUT_S, "follow_redirects": True}
    return {
        "http_client": httpx.Client(transport=transport, **options),
        "http_async_client": httpx.AsyncClient(transport=_InThreads(transport), **options),
        "max_retries": 0,
    }


class _ChatTransport(BoundedTransport):
    """Retries requests that were not processed."""

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
    """The transport for asyncio: blocking calls run in threads."""

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
    """The body of a response; each piece is read in a thread."""

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
    """Run a blocking call; if the task is cancelled, end the HTTP exchange."""
    try:
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    except BaseException:
        stop.set()
        raise
