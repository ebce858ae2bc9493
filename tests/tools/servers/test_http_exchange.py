"""Servers that drip, flood, pack, hang and lie, as real sockets on this machine."""

from __future__ import annotations

import contextvars
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
)
from mgem_agent.tools.servers import http_transport, web_address
from mgem_agent.tools.servers.http_client import ServerClient
from mgem_agent.tools.servers.http_compression import AnswerTooLongError
from mgem_agent.tools.servers.http_exchange import ExchangeCancelledError, end_exchanges_with
from mgem_agent.tools.servers.http_transport import bounded_client

HEAD = b"HTTP/1.1 200 OK\r\n"
Script = Callable[[socket.socket, threading.Event], None]


class Hostile:
    """A server that does what a script tells it to with each connection, once the request's headers have come."""

    def __init__(self) -> None:
        self.script: Script = lambda connection, over: None
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads: list[threading.Thread] = []
        self.accepting = threading.Thread(target=self.accept)
        self.accepting.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.over.is_set():
                connection.close()
                return
            self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
            self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096) or b"\r\n\r\n"
                self.requests.append(head)
                self.script(connection, self.over)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(65536):
                    pass  # closing with unread bytes would reset what was sent
            except OSError:
                return  # the client has gone away

    def stop(self) -> None:
        self.over.set()
        socket.create_connection(self.listener.getsockname()).close()
        self.accepting.join()
        self.listener.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.stop()


def drip(connection: socket.socket, over: threading.Event, data: bytes = b"x") -> None:
    while not over.wait(0.02):
        connection.sendall(data)


def flood(connection: socket.socket, over: threading.Event, data: bytes) -> None:
    while not over.is_set():
        connection.sendall(data)


def dripped_header(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"X-Long: ")
    drip(connection, over)


def dripped_processing(connection: socket.socket, over: threading.Event) -> None:
    drip(connection, over, b"HTTP/1.1 102 Processing\r\n\r\n")


def flooded_processing(connection: socket.socket, over: threading.Event) -> None:
    flood(connection, over, b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


def dripped_chunk_extension(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;x=")
    drip(connection, over)


def dripped_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    drip(connection, over)


def packed_nothing(connection: socket.socket, over: threading.Event) -> None:
    packer = zlib.compressobj(wbits=31)
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n" + packer.compress(b""))
    drip(connection, over, packer.flush(zlib.Z_FULL_FLUSH))


def silence(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


SLOW: list[Script] = [
    dripped_header,
    dripped_processing,
    flooded_processing,
    dripped_chunk_extension,
    dripped_body,
    packed_nothing,
    silence,
]


def client(server: Hostile, **options: Any) -> ServerClient:
    settings: dict[str, Any] = {"timeout_s": 0.3, "max_retries": 2, "backoff_s": 0.001, **options}
    return ServerClient(server.url, server="The toy server", **settings)


@pytest.mark.parametrize("script", SLOW, ids=lambda script: script.__name__)
def test_no_manner_of_slowness_passes_the_deadline(hostile: Hostile, script: Script) -> None:
    hostile.script = script
    began = time.monotonic()
    with pytest.raises(GeneratorTimeoutError, match="did not answer within 0.3 s"):
        client(hostile).request_json("GET", "/x")
    assert time.monotonic() - began < 1.5
    assert len(hostile.requests) == 1


@pytest.mark.parametrize("script", SLOW, ids=lambda script: script.__name__)
def test_cancelling_ends_each_of_them(hostile: Hostile, script: Script) -> None:
    hostile.script = script
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(GenerationCancelledError):
        client(hostile, timeout_s=20).request_json("POST", "/x", json={}, cancel=cancel)
    assert time.monotonic() - began < 1.5


def test_a_server_that_does_not_read_what_is_sent(hostile: Hostile) -> None:
    hostile.script = silence
    began = time.monotonic()
    with pytest.raises(GeneratorTimeoutError):
        client(hostile).request_json("POST", "/x", content=b"x" * 30_000_000)
    assert time.monotonic() - began < 1.5


def test_attempts_share_one_deadline(hostile: Hostile) -> None:
    def busy(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 0.2\r\nContent-Length: 0\r\n\r\n")

    hostile.script = busy
    began = time.monotonic()
    with pytest.raises((GeneratorUnavailableError, GeneratorTimeoutError)):
        client(hostile, max_retries=50).request_json("GET", "/x")
    assert time.monotonic() - began < 1


def test_a_name_that_is_not_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()
    monkeypatch.setattr(http_transport, "look_up", lambda host, port: found.wait(5) and [])
    began = time.monotonic()
    with pytest.raises(GeneratorUnavailableError, match=r"cannot be reached \(no connection within 0.2 s\)"):
        ServerClient("http://slow.invalid", server="It", timeout_s=5, connect_timeout_s=0.2, max_retries=0).request(
            "GET", "/"
        )
    found.set()
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("size", [200_000, 400])
def test_the_byte_limit_counts_every_byte(hostile: Hostile, size: int) -> None:
    def flooded_headers(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + b"A: b\r\n" * (size // 6) + b"\r\n")

    hostile.script = flooded_headers
    with pytest.raises(GeneratorOutputError, match="more than 300 bytes; the answer was discarded"):
        client(hostile, timeout_s=5).request("GET", "/x", max_bytes=300)


def answered(data: bytes, coding: str) -> Script:
    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + f"Content-Encoding: {coding}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)

    return script


def test_no_compression_is_asked_for_and_gzip_is_read_all_the_same(hostile: Hostile) -> None:
    for data, coding in (
        (gzip.compress(b'{"a": 1}'), "gzip"),
        (gzip.compress(b'{"a"') + gzip.compress(b": 1}"), "X-Gzip"),
        (zlib.compress(b'{"a": 1}'), "deflate"),
        (b'{"a": 1}', "identity"),
    ):
        hostile.script = answered(data, coding)
        assert client(hostile, timeout_s=5).request_json("GET", "/x") == {"a": 1}
    assert all(b"accept-encoding: identity\r\n" in request.lower() for request in hostile.requests)


@pytest.mark.parametrize("coding", ["gzip, gzip", "zstd", "br", "gzip, identity, deflate"])
def test_other_compression_is_refused_by_name(hostile: Hostile, coding: str) -> None:
    hostile.script = answered(b"\x28\xb5\x2f\xfd", coding)
    with pytest.raises(GeneratorOutputError, match="sent an invalid answer: the answer is compressed .*did not accept"):
        client(hostile, timeout_s=5).request_json("GET", "/x")


def test_what_unpacks_to_too_much_is_cut_off(hostile: Hostile) -> None:
    hostile.script = answered(gzip.compress(bytes(5_000_000)), "gzip")
    with pytest.raises(GeneratorOutputError, match="more than 100,000 bytes"):
        client(hostile, timeout_s=5).request("GET", "/x", max_bytes=100_000)


def test_a_damaged_packing(hostile: Hostile) -> None:
    hostile.script = answered(b"no gzip", "gzip")
    with pytest.raises(GeneratorOutputError, match="the compressed answer is damaged"):
        client(hostile, timeout_s=5).request("GET", "/x")


@pytest.mark.parametrize(("free", "num_requests"), [(None, 1), (True, 3)])
def test_a_post_that_was_sent_is_not_repeated_unless_it_is_free(
    hostile: Hostile, free: bool | None, num_requests: int
) -> None:
    for script in (lambda connection, over: None, answered_half):
        hostile.requests.clear()
        hostile.script = script
        with pytest.raises(GeneratorUnavailableError, match="did not complete its answer"):
            client(hostile, timeout_s=5).request_json("POST", "/x", json={}, is_free=free)
        assert len(hostile.requests) == num_requests


def answered_half(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n12345")


@pytest.mark.parametrize(("status", "num_requests"), [(502, 1), (504, 1), (503, 3), (429, 3)])
def test_a_gateway_that_lost_the_answer_is_not_asked_again(hostile: Hostile, status: int, num_requests: int) -> None:
    def broken(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(f"HTTP/1.1 {status} Oh\r\nContent-Length: 0\r\n\r\n".encode())

    hostile.script = broken
    with pytest.raises(GeneratorUnavailableError):
        client(hostile, timeout_s=5).request_json("POST", "/x", json={})
    assert len(hostile.requests) == num_requests


def test_pictures_are_not_fetched_from_this_machine_or_a_private_network(hostile: Hostile) -> None:
    other = Hostile()
    known = client(hostile, timeout_s=5)
    port = other.listener.getsockname()[1]
    try:
        for url in (
            f"{other.url}/a.png",
            f"http://localhost:{port}/a.png",
            f"http://[::ffff:127.0.0.1]:{port}/a.png",
            f"http://2130706433:{port}/a.png",
            f"http://127.1:{port}/a.png",
            f"http://0.0.0.0:{port}/a.png",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/a.png",
            "http://[fe80::1]/a.png",
            "http://[64:ff9b::7f00:1]/a.png",
        ):
            with pytest.raises(GeneratorOutputError, match="an address of this machine or of a private network"):
                known.download_picture(url)
        assert other.requests == []
    finally:
        other.stop()


def test_a_redirect_to_this_machine_is_not_followed(hostile: Hostile) -> None:
    other = Hostile()

    def redirect(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(f"HTTP/1.1 302 Go\r\nLocation: {other.url}/a.png\r\nContent-Length: 0\r\n\r\n".encode())

    hostile.script = redirect
    try:
        with pytest.raises(GeneratorOutputError, match="an address of this machine or of a private network"):
            client(hostile, timeout_s=5).download_picture(f"{hostile.url}/a.png")
        assert (len(hostile.requests), other.requests) == (1, [])
    finally:
        other.stop()


def test_a_name_that_leads_here_is_not_followed(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "look_up", lambda host, port: ["127.0.0.1"])
    with pytest.raises(GeneratorOutputError, match=r"\(127.0.0.1\)"):
        client(hostile, timeout_s=5).download_picture("http://pictures.example/a.png")


def test_a_proxy_is_not_asked_for_a_private_address(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_address.urllib.request, "getproxies", lambda: {"http": hostile.url})
    monkeypatch.setattr(web_address.urllib.request, "proxy_bypass", lambda host: False)
    known = client(hostile, timeout_s=5)
    with pytest.raises(GeneratorOutputError, match="private network"):
        known.download_picture("http://10.0.0.1/a.png")
    assert hostile.requests == []
    hostile.script = lambda connection, over: connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
    elsewhere = ServerClient("http://93.184.216.34", server="It", timeout_s=5)
    assert elsewhere.request_json("GET", "/x") == {}
    assert hostile.requests[0].startswith(b"GET http://93.184.216.34/x HTTP/1.1\r\n")


def test_any_httpx_client_can_have_the_limits(hostile: Hostile) -> None:
    hostile.script = dripped_body
    with bounded_client(timeout_s=0.3) as bounded, pytest.raises(httpx.ReadTimeout):
        bounded.get(hostile.url)
    hostile.script = lambda connection, over: connection.sendall(HEAD + b"\r\n" + b"x" * 1000)
    with bounded_client(timeout_s=5, max_bytes=500) as bounded, pytest.raises(AnswerTooLongError):
        bounded.get(hostile.url)
    cancel = threading.Event()
    cancel.set()
    context = contextvars.copy_context()
    context.run(end_exchanges_with, cancel)
    with bounded_client(timeout_s=5) as bounded, pytest.raises(ExchangeCancelledError):
        context.run(bounded.get, hostile.url)
