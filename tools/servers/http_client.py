"""An HTTP client for one drawing server, with time limits, retries, size limits and readable errors.

Decisions that matter:

- **A whole request has one deadline and one byte limit**, retries and redirects included; see `http_exchange`.
- **Requests are retried** if the server cannot be reached, is busy (429, 503) or fails, with a delay that doubles, or
  the delay of its Retry-After header. A time-out is not retried: the server may still be drawing.
- **A request that may have been executed is not sent again**: a POST whose connection broke after it was sent may have
  drawn a picture, and cost money. Calls that are free are marked.
- **A name and password in the address** are used to log in and appear in no message and no name.
- **This machine is reached without a proxy**, whatever the environment says.
"""

from __future__ import annotations

import base64
import email.utils
import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.redaction import redacted_start
from mgem_agent.tools.servers.http_compression import AnswerTooLongError
from mgem_agent.tools.servers.http_exchange import Exchange, ExchangeCancelledError
from mgem_agent.tools.servers.http_transport import bounded_client
from mgem_agent.tools.servers.served_picture import ServedPicture, read_picture
from mgem_agent.tools.servers.server_answer import ServerAnswer, described, message_of
from mgem_agent.tools.servers.web_address import ForbiddenAddressError, PublicAddresses

__all__ = ["BUSY_STATUSES", "MAX_PICTURE_BYTES", "ServerClient", "asked_pause_s", "same_server"]

MAX_PICTURE_BYTES = 64 * 2**20
"""Most bytes of a picture that is fetched."""

MAX_ANSWER_BYTES = 128 * 2**20
MAX_PAUSE_S = 60.0
MAX_REDIRECTS = 5
MAX_PORT = 65_535
BUSY_STATUSES = frozenset({429, 502, 503, 504})
"""Answers that may be others a moment later."""

BROKEN_OFF_STATUSES = frozenset({502, 504})
"""Answers of a gateway whose server did not answer to the end: what was asked for may have been done."""

Explain = Callable[[int, Any], MgemError | None]


class ServerClient:
    """Talks to one server.

    Args:
        address: Its address, such as `http://127.0.0.1:7860`; the default scheme is http.
        server: Its name, as the start of a sentence, such as "The OpenAI images server".
        timeout_s: Seconds for one answer.
        connect_timeout_s: Seconds to reach it.
        max_retries: Maximum number of retries.
        backoff_s: Seconds before the first retry; the delay doubles each time.
        headers: Headers of every request.
        access_hint: Advice if the server refuses access.
        explain: Called with the status and the data of an answer of 400 or above; an error that it returns is raised
            at once. If it returns None, the request is retried or a general error is raised.
        retried_statuses: Statuses that are worth another attempt.

    Attributes:
        address: The address, without a name and password.
        server: Its name.
        timeout_s: Seconds for one answer.
        authorization: The header that logs in, or None.

    Raises:
        InputError: If the address is not valid.
    """

    def __init__(
        self,
        address: str,
        *,
        server: str,
        timeout_s: float = 300.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
        headers: Mapping[str, str] | None = None,
        access_hint: str = "Check the name and password in the address.",
        explain: Explain | None = None,
        retried_statuses: Collection[int] = BUSY_STATUSES,
    ) -> None:
        url = _parse(address)
        credentials = (url.username, url.password) if url.userinfo else None
        self.address = str(url.copy_with(username=None, password=None)).rstrip("/")
        self.server = server
        self.timeout_s = timeout_s
        self.authorization = _basic(*credentials) if credentials else None
        self._connect_timeout_s = connect_timeout_s
        self._max_retries = max_retries
        self._backoff_s = backoff_s
        self._headers = dict(headers or {})
        if self.authorization:
            self._headers["Authorization"] = self.authorization
        self._access_hint = access_hint
        self._explain = explain
        self._retried_statuses = retried_statuses
        self._jitter = random.Random()  # its own generator, so that a seeded program is not affected
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def request_json(self, method: str, path: str, *, cancel: threading.Event | None = None, **body: Any) -> Any:
        """Send a request and read the JSON of its answer.

        Args:
            method: HTTP method.
            path: Path below the address.
            cancel: Set it to cancel the request.
            body: Arguments of httpx (`json`, `data`, `files`, `params`) and of `request`.

        Raises:
            MgemError: If the request fails; its class says how.
        """
        answer = self.request(method, path, cancel=cancel, **body)
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise GeneratorOutputError(
                f"{self.server} at {self.address} answered {method} {path} with {described(answer.body)}, not JSON. "
                f"Check the address, and that no proxy changes the answer.",
                retryable=True,
            ) from error

    def request_picture(self, path: str, *, cancel: threading.Event | None = None, **body: Any) -> ServedPicture:
        """Fetch a picture from the server itself; arguments and errors as in `request_json`."""
        answer = self.request("GET", path, cancel=cancel, max_bytes=MAX_PICTURE_BYTES, **body)
        return read_picture(answer.body, source=self.server)

    def download_picture(
        self, url: str, *, cancel: threading.Event | None = None, end: float | None = None
    ) -> ServedPicture:
        """Fetch a picture from an address that the server returned, without sending our key and password.

        Args:
            url: The address; only http and https, to the public internet or to the server itself.
            cancel: Set it to cancel the request.
            end: Deadline, by `time.monotonic()`.

        Raises:
            GeneratorOutputError: If it is not a web address, not a picture, or too large.
            ToolError: If it cannot be fetched.
        """
        try:
            target = httpx.URL(self.address + "/").join(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise GeneratorOutputError(f"{self.server} returned {url!r} as the address of a picture.") from error
        if target.scheme not in ("http", "https") or not target.host:
            raise GeneratorOutputError(
                f"{self.server} gave {redacted_start(url, 80)!r} as the address of a picture; http and https alone are "
                f"followed."
            )
        elsewhere = ServerClient(
            str(target.copy_with(raw_path=b"/", username=None, password=None)),
            server="The server that keeps the picture",
            timeout_s=self.timeout_s,
            connect_timeout_s=self._connect_timeout_s,
            max_retries=self._max_retries,
            backoff_s=self._backoff_s,
        )
        own = httpx.URL(self.address)
        answer = elsewhere.request(
            "GET",
            target.raw_path.decode("ascii"),
            cancel=cancel,
            max_bytes=MAX_PICTURE_BYTES,
            follow_redirects=True,
            public=PublicAddresses(own.host, own.port or (443 if own.scheme == "https" else 80)),
            end=end,
        )
        return read_picture(answer.body, source=self.server)

    def request(
        self,
        method: str,
        path: str,
        *,
        cancel: threading.Event | None = None,
        max_retries: int | None = None,
        timeout_s: float | None = None,
        end: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        public: PublicAddresses | None = None,
        is_free: bool | None = None,
        explain: Explain | None = None,
        **body: Any,
    ) -> ServerAnswer:
        """Send a request, with retries, and return an answer with a status below 300.

        Args:
            method: HTTP method.
            path: Path below the address.
            cancel: Set it to cancel the request.
            max_retries: Maximum number of retries; the client's if not given.
            timeout_s: Seconds for the request, including retries; the client's if not given.
            end: Deadline, by `time.monotonic()`.
            max_bytes: Maximum number of bytes to read.
            public: The allowed addresses; None for all.
            is_free: Whether it may run twice, so that it is retried even after it was sent; only GET if not given.
            explain: Used instead of the client's.
            **body: Arguments of httpx.

        Raises:
            MgemError: If the request fails; its class says how.
        """
        named_s = limit_s = timeout_s or self.timeout_s
        if end is not None and (left_s := end - time.monotonic()) < limit_s:
            named_s, limit_s = self.timeout_s, left_s
        exchange = Exchange(
            timeout_s=limit_s,
            max_bytes=max_bytes,
            connect_timeout_s=min(self._connect_timeout_s, limit_s),
            cancel=cancel,
            public=public,
        )
        is_free = method == "GET" if is_free is None else is_free
        last_attempt = self._max_retries if max_retries is None else max_retries
        for attempt in itertools.count():
            wait_s = self._backoff_s * 2**attempt * self._jitter.uniform(0.75, 1.25)
            try:
                answer = self._send(method, path, exchange, **body)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = self._failed(error, exchange, named_s)
                if not self._is_worth_repeating(error, is_free):
                    raise failure from error
            else:
                if answer.status < 300:
                    return answer
                failure = self._refused(method, path, answer, explain or self._explain)
                if answer.status not in self._retried_statuses or _is_final(failure):
                    raise failure
                if answer.status in BROKEN_OFF_STATUSES and not is_free:
                    raise failure
                wait_s = asked_pause_s(answer.headers, default=wait_s)
            if attempt >= last_attempt or wait_s > MAX_PAUSE_S or time.monotonic() + wait_s > exchange.end:
                raise failure
            self._pause(wait_s, exchange)
        raise RuntimeError("counting never ends")  # for type checkers

    @staticmethod
    def _pause(seconds: float, exchange: Exchange) -> None:
        try:
            exchange.pause(seconds)
        except ExchangeCancelledError as error:
            raise GenerationCancelledError("The request was cancelled.") from error

    def _send(
        self, method: str, path: str, exchange: Exchange, *, follow_redirects: bool = False, **body: Any
    ) -> ServerAnswer:
        """Send one request and read its answer within the limits."""
        with self._open().stream(
            method, self.address + path, follow_redirects=follow_redirects, extensions=exchange.extensions, **body
        ) as response:
            content = b"".join(response.iter_bytes())
            return ServerAnswer(response.status_code, response.headers, content)

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = bounded_client(headers=self._headers, max_redirects=MAX_REDIRECTS)
            return self._client

    @staticmethod
    def _is_worth_repeating(error: Exception, is_free: bool) -> bool:
        """Whether a retry may succeed and cannot run the request twice."""
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return True  # nothing was sent yet
        is_broken = isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError))
        return is_broken and is_free

    def _failed(self, error: Exception, exchange: Exchange, limit_s: float) -> MgemError:
        """Return the error for a request without an answer."""
        where = f"{self.server} at {self.address}"
        if isinstance(error, ExchangeCancelledError):
            return GenerationCancelledError("The request was cancelled.")
        if isinstance(error, AnswerTooLongError):
            return GeneratorOutputError(
                f"{where} answered with more than {exchange.max_bytes:,} bytes; the answer was discarded."
            )
        if isinstance(error, ForbiddenAddressError):
            return GeneratorOutputError(
                f"{where} is blocked: {error}. Addresses that a server returns may only lead to the public internet or "
                f"to the server itself. Configure the server to send its pictures in base64."
            )
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return GeneratorTimeoutError(
                f"{where} did not answer within {limit_s:g} s. "
                f"Check whether it is busy, or raise the option timeout_s.",
                retryable=True,
            )
        reason = str(error) or type(error).__name__
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return GeneratorUnavailableError(
                f"{where} cannot be reached ({reason}). Start it, or check the address.", retryable=True
            )
        if isinstance(error, httpx.TransportError):
            return GeneratorUnavailableError(
                f"{where} did not complete its answer ({reason}). Check whether it still runs.", retryable=True
            )
        return GeneratorOutputError(f"{where} sent an invalid answer: {reason}")  # such as too many redirects

    def _refused(self, method: str, path: str, answer: ServerAnswer, explain: Explain | None) -> MgemError:
        """Return the error for an answer of 300 or above."""
        data, status = answer.data, answer.status
        if explain and status >= 400 and (explained := explain(status, data)):
            return explained
        where = f"{self.server} at {self.address}"
        if status < 400:
            target = answer.headers.get("location", "elsewhere")
            return GeneratorUnavailableError(f"{where} redirects {method} {path} to {target}. Give the final address.")
        if status in (401, 403):
            return GeneratorUnavailableError(f"{where} refused access (status {status}). {self._access_hint}")
        if status in (404, 405):
            return GeneratorUnavailableError(
                f"{where} does not know {method} {path} (status {status}): {message_of(data)}. "
                f"Check the address, and that the server is of this kind."
            )
        if status in BUSY_STATUSES:
            pause = answer.headers.get("retry-after")
            when = f"after {pause!r}, as it requests" if pause else "later"
            return GeneratorUnavailableError(
                f"{where} is too busy (status {status}): {message_of(data)}. Try again {when}.", retryable=True
            )
        if status >= 500:
            return GeneratorOutputError(
                f"{where} failed (status {status}): {message_of(data)}. Its log says more.", retryable=True
            )
        return UnsupportedRequestError(
            f"{where} does not accept the request (status {status}): {message_of(data)}. Change the request."
        )


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode("ascii")


def _parse(address: str) -> httpx.URL:
    refusal = f"{address!r} is not a web address. Give one such as 'http://127.0.0.1:8188'."
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL as error:
        raise InputError(refusal) from error
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > MAX_PORT:
        raise InputError(refusal)
    return url


def same_server(one: str, other: str) -> bool:
    """Whether two addresses belong to one server: the same scheme, host and port."""

    def server(address: str) -> tuple[str, str, int | None]:
        url = _parse(address)
        return url.scheme, url.host, url.port or {"http": 80, "https": 443}[url.scheme]

    return server(one) == server(other)


def _is_final(failure: MgemError) -> bool:
    """Whether another attempt is pointless, whatever the status."""
    return not (isinstance(failure, ToolError) and failure.retryable)


def asked_pause_s(headers: httpx.Headers, *, default: float) -> float:
    """Return the delay of a Retry-After header in seconds, from a number or a date."""
    asked = headers.get("retry-after", "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass  # not a number, perhaps a date
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return default
