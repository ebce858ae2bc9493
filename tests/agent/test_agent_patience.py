"""A turn's time holds on a chat server that is silent, drips, or does not even finish its headers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent import MgemAgent
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.reasoners import make_reasoner
from mgem_agent.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
EVENT = b'data: {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}\n\n'


class Server:
    """Sends `first` and then `dripped` again and again, to each connection."""

    def __init__(self, first: bytes, dripped: bytes) -> None:
        self.first, self.dripped = first, dripped
        self.over = threading.Event()
        self.num_requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection:
                if self.over.is_set():
                    return
                self.num_requests += 1
                connection.recv(65536)
                try:
                    connection.sendall(self.first)
                    while not self.over.wait(0.05):
                        connection.sendall(self.dripped)
                except OSError:
                    continue  # the client has gone away

    def stop(self) -> None:
        self.over.set()
        socket.create_connection(self.listener.getsockname()).close()
        self.thread.join()
        self.listener.close()


@pytest.fixture(params=["silence", "a header", "events"])
def server(request: Any) -> Iterator[Server]:
    answers = {"silence": (b"", b""), "a header": (HEAD + b"X: ", b"x"), "events": (HEAD + b"\r\n", EVENT)}
    running = Server(*answers[request.param])
    yield running
    running.stop()


@pytest.mark.parametrize("tool_calling", ["prompt", "native"])
def test_a_turn_ends_in_time(server: Server, tmp_path: Path, tool_calling: Any) -> None:
    address = f"http://127.0.0.1:{server.listener.getsockname()[1]}/v1#m"
    reasoner = make_reasoner(address, tool_calling=tool_calling)
    sessions = Sessions.in_memory()
    agent = MgemAgent(reasoner, FlatColourGenerator(), store=ArtifactStore(tmp_path), sessions=sessions, timeout_s=0.4)
    began = time.monotonic()
    turn = agent.invoke("Hello!")
    assert turn.outcome == "timeout"
    assert time.monotonic() - began < 3
    assert server.num_requests <= 1  # never asked again; on a busy machine time may be over before the first
