"""The HTTP clients of chat models, against servers that are silent, drip, are busy or break off."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mgem_agent.chat_models import chat_http
from mgem_agent.chat_models.chat_http import chat_clients
from mgem_agent.chat_models.interruptible import interruptible

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n"
DRIPPED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers each connection with the next of `answers`; b"" closes it, None is silent, DRIPPED never ends."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self.gone = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection:
                if self.over.is_set():
                    return
                connection.settimeout(5)
                self.requests.append(self.read_request(connection))
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                try:
                    connection.sendall(answer or b"")
                    while answer == DRIPPED and not self.over.wait(0.02):
                        connection.sendall(b"1\r\nx\r\n")
                    while answer is None and connection.recv(65536):
                        pass  # until the client has gone away
                except OSError:
                    pass  # the client has gone away
                self.gone.set()

    def read_request(self, connection: socket.socket) -> bytes:
        """Read a whole request, whose body is `{}`: closing with unread bytes would reset the connection."""
        received = b""
        while not received.endswith(b"\r\n\r\n{}") and (part := connection.recv(65536)):
            received += part
        return received

    def stop(self) -> None:
        self.over.set()
        socket.create_connection(self.listener.getsockname()).close()
        self.thread.join()
        self.listener.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(chat_http, "FIRST_PAUSE_S", 0.01)
    running = Server()
    yield running
    running.stop()


def client(max_retries: int | None = None) -> httpx.Client:
    found: httpx.Client = chat_clients(max_retries)["http_client"]
    return found


@pytest.mark.parametrize("answer", [None, DRIPPED])
def test_the_time_out_is_that_of_the_whole_answer(server: Server, answer: bytes | None) -> None:
    server.answers = [answer]
    began = time.monotonic()
    with client() as http, pytest.raises(httpx.ReadTimeout):
        http.post(server.url, json={}, timeout=0.2)
    assert time.monotonic() - began < 1.5
    assert len(server.requests) == 1


def test_what_was_not_carried_out_is_repeated(server: Server) -> None:
    server.answers = [BUSY, OK]
    with client() as http:
        assert http.post(server.url, json={}).text == "ok"
    server.answers, server.requests = [BUSY], []
    with client(max_retries=1) as http:
        assert http.post(server.url, json={}).status_code == 429
    assert len(server.requests) == 2


def test_what_may_have_been_carried_out_is_not(server: Server) -> None:
    server.answers = [b"", OK]
    with client() as http, pytest.raises(httpx.RemoteProtocolError):
        http.post(server.url, json={})
    assert len(server.requests) == 1


def test_an_answer_that_nobody_waits_for_closes_its_connection(server: Server) -> None:
    server.answers = [None]
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    began = time.monotonic()

    def start() -> Iterator[str]:
        with client() as http:
            yield http.post(server.url, json={}).text

    assert list(interruptible(start, cancel)) == []
    assert time.monotonic() - began < 1
    assert server.gone.wait(2)


def test_what_is_read_in_a_thread_comes_in_order_with_its_error() -> None:
    def start() -> Iterator[int]:
        yield from range(3)
        raise ValueError("the end")

    seen: list[int] = []
    with pytest.raises(ValueError, match="the end"):
        for number in interruptible(start, threading.Event()):
            seen.append(number)
    assert seen == [0, 1, 2]


def test_the_client_of_an_event_loop(server: Server) -> None:
    async def ask(**options: Any) -> str:
        async with chat_clients()["http_async_client"] as http:
            answer: httpx.Response = await http.post(server.url, json={}, **options)
            return answer.text

    server.answers = [OK]
    assert asyncio.run(ask()) == "ok"
    server.answers = [DRIPPED]
    with pytest.raises(httpx.ReadTimeout):
        asyncio.run(ask(timeout=0.2))
    server.answers = [None]
    server.gone.clear()

    async def give_up() -> None:
        await asyncio.wait_for(ask(), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert server.gone.wait(2)
