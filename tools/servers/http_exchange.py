"""One HTTP exchange with one deadline and one byte limit, from the DNS lookup to the last byte.

httpx limits each read separately. So it never times out on a server that sends a byte of a header now and then, floods
`102 Processing`, or sends compressed data that expands to nothing. Decisions that matter:

- **The limits apply below HTTP**: `http_transport` applies them to the stream of the connection, and so to everything:
  TLS, the proxy's answer, headers, chunk sizes, the body. Every byte counts once.
- **Every wait is split into short ones**, so that a cancelled exchange ends at once, in any state.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

import httpx

from mgem_agent.tools.background_call import call_in_background
from mgem_agent.tools.servers.http_compression import AnswerTooLongError
from mgem_agent.tools.servers.web_address import PublicAddresses

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_TIMEOUT_S",
    "EXTENSION",
    "POLL_S",
    "Exchange",
    "ExchangeCancelledError",
    "end_exchanges_with",
]

POLL_S = 0.1
"""Longest single wait in seconds, so that a cancelled exchange ends soon."""

DEFAULT_TIMEOUT_S = 600.0
DEFAULT_MAX_BYTES = 128 * 2**20
CONNECT_TIMEOUT_S = 10.0

EXTENSION = "mgem_exchange"
"""Name of the httpx extension by which a request joins an exchange."""

T = TypeVar("T")

_cancel: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("mgem_exchange_cancel", default=None)


class ExchangeCancelledError(httpx.TransportError):
    """The exchange was cancelled."""


def end_exchanges_with(cancel: threading.Event) -> None:
    """End the exchanges that this context begins from now on when an event is set."""
    _cancel.set(cancel)


class Exchange:
    """What one exchange may take, its redirects and repetitions included.

    Args:
        timeout_s: Seconds until its last byte.
        max_bytes: Most bytes that are read, headers included.
        connect_timeout_s: Seconds to reach a server.
        cancel: Ends it when it is set; that of `end_exchanges_with` if not given.
        public: Which addresses may be connected to; any if None.

    Attributes:
        end: When it is over, by `time.monotonic()`. Who reads a long answer may move it.
    """

    def __init__(
        self,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        cancel: threading.Event | None = None,
        public: PublicAddresses | None = None,
    ) -> None:
        self.end = time.monotonic() + timeout_s
        self.max_bytes = max_bytes
        self.connect_timeout_s = connect_timeout_s
        self.cancel = cancel if cancel is not None else _cancel.get()
        self.public = public
        self._num_bytes = 0

    @property
    def extensions(self) -> dict[str, Any]:
        """What a request is given as its `extensions`, to be a part of this exchange."""
        return {EXTENSION: self}

    def left_s(self) -> float:
        """Return the seconds that are left.

        Raises:
            httpx.ReadTimeout: If none are.
            ExchangeCancelledError: If it is no longer wanted.
        """
        if self.cancel is not None and self.cancel.is_set():
            raise ExchangeCancelledError("The exchange was cancelled.")
        left = self.end - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("The deadline for the answer has passed.")
        return left

    def pause(self, seconds: float) -> None:
        """Wait before another attempt.

        Raises:
            httpx.HTTPError: As `left_s`.
        """
        if self.cancel is None:
            time.sleep(seconds)
        else:
            self.cancel.wait(seconds)
        self.left_s()

    def count(self, num_bytes: int) -> None:
        """Take note of bytes that have come.

        Raises:
            AnswerTooLongError: If they are too many.
        """
        self._num_bytes += num_bytes
        if self._num_bytes > self.max_bytes:
            raise AnswerTooLongError(f"The answer has more than {self.max_bytes:,} bytes.")

    def wait_for(self, call: Callable[[], T], *, limit_s: float, discard: Callable[[T], Any]) -> T:
        """Wait for a call that cannot be broken off, no longer than there is time.

        Args:
            call: What blocks; it runs in a thread of its own, and what it returns too late is discarded.
            limit_s: Seconds for it.
            discard: Takes what comes too late.

        Raises:
            httpx.ConnectTimeout: If it takes longer than its limit.
            httpx.HTTPError: As `left_s`, and what the call raises.
        """
        future = call_in_background(call)
        end = time.monotonic() + limit_s
        try:
            while not future.done():
                left = min(self.left_s(), end - time.monotonic())
                if left <= 0:
                    raise httpx.ConnectTimeout(f"no connection within {limit_s:g} s")
                wait([future], timeout=min(left, POLL_S))
        except BaseException:
            future.add_done_callback(partial(_discard, discard))
            raise
        return future.result()


def _discard(discard: Callable[[T], Any], future: Future[T]) -> None:
    if future.exception() is None:
        discard(future.result())
