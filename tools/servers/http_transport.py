"""The httpx transport that keeps every request within the limits of its exchange (see `http_exchange`).

- **Compression is not requested**: `Accept-Encoding: identity` is sent. An answer that is compressed anyway is read if
  it is gzip or deflate once, within the byte limit; anything else is refused.
- **Every exchange has its own connection**: a kept connection may have died and would fail the next exchange.
"""

from __future__ import annotations

import functools
import selectors
import ssl
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpcore
import httpx

from mgem_agent.tools.servers.http_compression import decompressed, is_compressed
from mgem_agent.tools.servers.http_exchange import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT_S, EXTENSION, POLL_S, Exchange
from mgem_agent.tools.servers.web_address import PublicAddresses, look_up, proxy_for

__all__ = ["BoundedTransport", "bounded_client"]

WRITE_BYTES = 16 * 2**10
HTTPCORE_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


def _close(stream: httpcore.NetworkStream) -> None:
    stream.close()


class _BoundedStream(httpcore.NetworkStream):
    """A connection with the limits of an exchange."""

    def __init__(self, stream: httpcore.NetworkStream, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while True:
            try:
                data = self._stream.read(max_bytes, timeout=min(self._exchange.left_s(), POLL_S))
            except httpcore.ReadTimeout:
                continue
            self._exchange.count(len(data))
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stream.get_extra_info("socket"), selectors.EVENT_WRITE)
            for start in range(0, len(buffer), WRITE_BYTES):
                while not selector.select(min(self._exchange.left_s(), POLL_S)):
                    pass  # `left_s` ends it
                self._stream.write(buffer[start : start + WRITE_BYTES], timeout=self._exchange.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit_s = self._exchange.connect_timeout_s
        start = partial(self._stream.start_tls, ssl_context, server_hostname, limit_s)
        return _BoundedStream(self._exchange.wait_for(start, limit_s=limit_s, discard=_close), self._exchange)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BoundedBackend(httpcore.NetworkBackend):
    """Opens the connections of an exchange."""

    def __init__(self, exchange: Exchange, public: PublicAddresses | None) -> None:
        self._exchange = exchange
        self._public = public

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit_s = self._exchange.connect_timeout_s
        connect = partial(_connected, host, port, self._public, limit_s)
        stream = self._exchange.wait_for(connect, limit_s=limit_s, discard=_close)
        return _BoundedStream(stream, self._exchange)


def _connected(host: str, port: int, public: PublicAddresses | None, limit_s: float) -> httpcore.NetworkStream:
    """Resolve a host name, and connect to the first address that answers."""
    try:
        addresses = look_up(host, port)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    if public is not None:
        addresses = public.check(host, port, addresses)
    end = time.monotonic() + limit_s
    for number, address in enumerate(addresses, start=1):
        share_s = max((end - time.monotonic()) / (len(addresses) - number + 1), POLL_S)
        try:
            return httpcore.SyncBackend().connect_tcp(address, port, timeout=share_s)
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            if number == len(addresses):
                raise
    raise httpcore.ConnectError(f"{host} has no address")


class BoundedTransport(httpx.BaseTransport):
    """Sends the requests of an httpx client, each as one exchange.

    A request may bring its exchange as an extension. Otherwise, the client's read time-out limits the whole exchange.

    Args:
        timeout_s: Seconds for an exchange, if the client has no time-out.
        max_bytes: Maximum size of an answer.
        verify: The trusted certificates; those of httpx if None.
    """

    def __init__(
        self,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._verify = verify

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the limits also apply to reading the answer's body.

        Raises:
            httpx.TransportError: If there is no answer within the limits.
            httpx.DecodingError: If its compression is not supported.
        """
        exchange = self.exchange_of(request)
        request.headers["Accept-Encoding"] = "identity"
        with _as_httpx_errors():
            pool = _pool(request.url, exchange, self._verify or _certificates())
            try:
                answer = pool.handle_request(_as_core_request(request))
                headers = httpx.Headers(answer.headers)
                body = _Body(answer, pool, exchange, is_compressed=is_compressed(headers))
            except BaseException:
                pool.close()
                raise
        return httpx.Response(answer.status, headers=headers, stream=body, extensions=answer.extensions)

    def exchange_of(self, request: httpx.Request) -> Exchange:
        """Return the exchange of a request, or a new one."""
        known = request.extensions.get(EXTENSION)
        if isinstance(known, Exchange):
            return known
        seconds = (request.extensions.get("timeout") or {}).get("read")
        return Exchange(timeout_s=self._timeout_s if seconds is None else seconds, max_bytes=self._max_bytes)


class _Body(httpx.SyncByteStream):
    """The streamed body of an answer, decompressed; closing it closes the connection."""

    def __init__(
        self, answer: httpcore.Response, pool: httpcore.ConnectionPool, exchange: Exchange, *, is_compressed: bool
    ) -> None:
        self._answer = answer
        self._pool = pool
        self._exchange = exchange
        self._is_packed = is_compressed

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx_errors():
            pieces = self._answer.iter_stream()
            yield from (
                decompressed(pieces, self._exchange.left_s, max_bytes=self._exchange.max_bytes)
                if self._is_packed
                else pieces
            )

    def close(self) -> None:
        with _as_httpx_errors():
            self._answer.close()
            self._pool.close()


def _pool(url: httpx.URL, exchange: Exchange, verify: ssl.SSLContext) -> httpcore.ConnectionPool:
    """Return the connection pool for a server, or for its proxy."""
    proxy = proxy_for(url)
    if proxy is None:
        return httpcore.ConnectionPool(ssl_context=verify, network_backend=_BoundedBackend(exchange, exchange.public))
    if exchange.public is not None:
        _check_behind_proxy(url, exchange)
    backend = _BoundedBackend(exchange, None)
    if proxy.url.scheme.startswith("socks"):
        try:
            return httpcore.SOCKSProxy(
                str(proxy.url), proxy_auth=proxy.raw_auth, ssl_context=verify, network_backend=backend
            )
        except ImportError as error:
            raise httpx.ProxyError("a SOCKS proxy needs the package 'socksio'") from error
    return httpcore.HTTPProxy(
        str(proxy.url),
        proxy_auth=proxy.raw_auth,
        proxy_headers=proxy.headers.raw,
        ssl_context=verify,
        proxy_ssl_context=verify if proxy.url.scheme == "https" else None,
        network_backend=backend,
    )


def _check_behind_proxy(url: httpx.URL, exchange: Exchange) -> None:
    """Resolve and check a host that a proxy will resolve again; a name that only the proxy knows passes."""
    port = url.port or (443 if url.scheme == "https" else 80)
    limit_s = exchange.connect_timeout_s
    try:
        addresses = exchange.wait_for(partial(look_up, url.host, port), limit_s=limit_s, discard=len)
    except (OSError, httpx.ConnectTimeout):
        return
    if exchange.public is not None:
        exchange.public.check(url.host, port, addresses)


def _as_core_request(request: httpx.Request) -> httpcore.Request:
    url = httpcore.URL(
        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
    )
    return httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream)


@contextmanager
def _as_httpx_errors() -> Generator[None, None, None]:
    """Convert httpcore's errors to httpx's errors of the same name."""
    try:
        yield
    except HTTPCORE_ERRORS as error:
        kind = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error)) from error


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return the trusted certificates; loaded once, because that takes longer than many answers."""
    return httpx.create_ssl_context()


def bounded_client(
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    max_bytes: int = DEFAULT_MAX_BYTES,
    verify: ssl.SSLContext | None = None,
    **options: Any,
) -> httpx.Client:
    """Return an httpx client whose exchanges have one deadline and one byte limit each.

    Args:
        timeout_s: Seconds for a whole exchange; a call's own time-out takes precedence.
        max_bytes: Maximum size of an answer.
        verify: The trusted certificates; those of httpx if None.
        **options: Arguments of `httpx.Client`: `headers`, `follow_redirects`, ...
    """
    transport = BoundedTransport(timeout_s=timeout_s, max_bytes=max_bytes, verify=verify)
    return httpx.Client(transport=transport, timeout=timeout_s, **options)
