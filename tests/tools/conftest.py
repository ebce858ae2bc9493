"""A small real HTTP server on this machine, which does what a test tells it to."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image


@dataclass
class Call:
    """A request that the server got."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What the server answers.

    `cut` sends so many bytes of the body and closes; `hang` waits for the test to end; `frames` makes it a websocket,
    and is given a function that sends a message.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: bool = False
    frames: Callable[[Callable[[Any], None]], None] | None = None


class Server:
    """Answers by `server.answer(call)`: a Reply, or JSON, or bytes; keeps every call it got in `calls`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answer: Callable[[Call], Any] = lambda call: Reply(404)
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                call = Call(self.command, parts.path, parts.query, dict(self.headers), body)
                outer.calls.append(call)
                outer.send(self, outer.answer(call))

            do_GET = do_POST = handle_any

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def send(self, handler: BaseHTTPRequestHandler, answer: Any) -> None:
        if isinstance(answer, bytes):
            answer = Reply(body=answer)
        elif not isinstance(answer, Reply):
            answer = Reply(body=json.dumps(answer).encode())
        if answer.hang:
            self.ended.wait(30)
            return
        if answer.frames:
            speak(handler, answer.frames)
            return
        try:
            handler.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(answer.body[: answer.cut])
        except OSError:
            return  # the client has gone away, as some tests want it to

    def paths(self) -> list[str]:
        return [call.path for call in self.calls]

    def stop(self) -> None:
        self.ended.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def speak(handler: BaseHTTPRequestHandler, frames: Callable[[Callable[[Any], None]], None]) -> None:
    """Accept a websocket (RFC 6455), let `frames` send messages, and drop the connection without a farewell."""
    key = handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
    handler.end_headers()
    handler.close_connection = True

    def send(message: Any) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        kind = 0x82 if isinstance(message, bytes) else 0x81
        size = bytes([len(data)]) if len(data) < 126 else struct.pack(">BH", 126, len(data))
        handler.wfile.write(bytes([kind]) + size + data)

    try:
        frames(send)
    except OSError:
        return  # the client has gone away


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers 404 until it is told otherwise."""
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Bytes of a picture of one colour."""

    def encode(colour: str = "red", size: tuple[int, int] = (64, 48)) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, colour).save(buffer, format="PNG")
        return buffer.getvalue()

    return encode
