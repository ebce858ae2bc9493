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
    """Cancel all exchanges that begin later in this context when an event is set."""
    _cancel.set(cancel)


class Exchange:
    """The limits of one exchange, including its redirects and retries.

    Args:
        timeout_s: Seconds until the last byte.
        max_bytes: Maximum number of bytes to read, including headers.
        connect_timeout_s: Seconds to reach a server.
        cancel: When set, the exchange ends; that of `end_exchanges_with` if not given.
        public: The allowed addresses; None for all.

    Attributes:
        end: Deadline, by `time.monotonic()`. The reader of a long answer may extend it.
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
        """The `extensions` of a request that belongs to this exchange."""
        return {EXTENSION: self}

    def left_s(self) -> float:
        """Return the seconds that are left.

        Raises:
            httpx.ReadTimeout: If no time is left.
            ExchangeCancelledError: If it was cancelled.
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
            httpx.HTTPError: As for `left_s`.
        """
        if self.cancel is None:
            time.sleep(seconds)
        else:
            self.cancel.wait(seconds)
        self.left_s()

    def count(self, num_bytes: int) -> None:
        """Count received bytes.

        Raises:
            AnswerTooLongError: If the limit is exceeded.
        """
        self._num_bytes += num_bytes
        if self._num_bytes > self.max_bytes:
            raise AnswerTooLongError(f"The answer has more than {self.max_bytes:,} bytes.")

    def wait_for(self, call: Callable[[], T], *, limit_s: float, discard: Callable[[T], Any]) -> T:
        """Run a call that cannot be interrupted, and wait for it until the deadline.

        Args:
            call: The blocking call. It runs in another thread; a late result is discarded.
            limit_s: Maximum seconds to wait.
            discard: Called with a late result.

        Raises:
            httpx.ConnectTimeout: If it takes longer than its limit.
            httpx.HTTPError: As for `left_s`, and the errors of the call.
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
