"""Requests to a server on this machine: JSON that is answered at once, or by a stream of events."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from mgem_agent.errors import MgemError
from mgem_agent.resident.wire import decode_error

__all__ = ["Connection"]

SILENCE_S = 60.0
"""Seconds without any byte after which a server counts as stuck; while it works it sends a comment every 15."""

ANSWER_S = 1800.0
"""Seconds that an answer that is not a stream may take, with the loading of weights."""

POLL_S = 0.05

_Read = Mapping[str, Any] | BaseException


class Connection:
    """Sends requests to one server.

    Args:
        address: Address of the server.
        unavailable: Creates the error for a server that fails or cannot be reached, from its message.
    """

    def __init__(self, address: str, unavailable: Callable[[str], MgemError]) -> None:
        self.address = address
        self._unavailable = unavailable

    def answers(self, path: str, *, timeout_s: float) -> Any:
        """Return the JSON at a path of the server; None if it does not answer in time.

        Args:
            path: The path.
            timeout_s: Seconds that it has.
        """
        try:
            with closing(self._open(timeout_s)) as connection:
                connection.request("GET", path)
                response = connection.getresponse()
                return json.loads(response.read()) if response.status == 200 else None
        except (OSError, HTTPException, ValueError):
            return None

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request, and return its answer.

        Args:
            path: The path.
            body: The request.

        Raises:
            MgemError: The error that the engine raised, or that the server cannot be reached.
        """
        try:
            with closing(self._open(ANSWER_S)) as connection:
                answer = self._read(self._send(connection, path, body))
        except (OSError, HTTPException) as error:
            raise self._lost(error) from error
        return _unpacked(answer)["answer"]

    def stream(self, path: str, body: Mapping[str, Any], cancel: threading.Event) -> Iterator[Mapping[str, Any]]:
        """Send a request, and yield its events. Closing the iterator, or `cancel`, stops the work in the server.

        Args:
            path: The path.
            body: The request.
            cancel: When it is set, the events end.

        Raises:
            MgemError: As for `ask`.
        """
        events: queue.SimpleQueue[_Read] = queue.SimpleQueue()
        connection = self._open(SILENCE_S)
        reading = threading.Thread(
            target=self._read_events, args=(connection, path, body, events), name="mgem-resident", daemon=True
        )
        reading.start()
        try:
            while (event := _next(events, cancel)) is not None:
                if isinstance(event, MgemError):
                    raise event
                if isinstance(event, BaseException):
                    raise self._lost(event)
                event = _unpacked(event)
                if "complete" in event:
                    return
                if "begun" not in event:
                    yield event
        finally:
            _shut(connection)

    def _read_events(
        self, connection: HTTPConnection, path: str, body: Mapping[str, Any], events: queue.SimpleQueue[_Read]
    ) -> None:
        """Put the events of a response into a queue, and at the end why there are no more."""
        try:
            for line in self._send(connection, path, body):
                if line.startswith(b"data: "):
                    events.put(json.loads(line[6:]))
            events.put(EOFError("it ended early"))
        except (OSError, HTTPException, ValueError, AttributeError, MgemError) as error:
            events.put(error)  # http.client raises AttributeError if it is closed while it reads

    def _open(self, timeout_s: float) -> HTTPConnection:
        parts = urlsplit(self.address)
        return HTTPConnection(str(parts.hostname), parts.port, timeout=timeout_s)

    def _send(self, connection: HTTPConnection, path: str, body: Mapping[str, Any]) -> HTTPResponse:
        text = json.dumps(body).encode("ascii")
        connection.request("POST", path, text, {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise self._unavailable(f"The server at {self.address} refused: {_reason(response)}")
        return response

    def _read(self, response: HTTPResponse) -> Any:
        try:
            return json.loads(response.read())
        except ValueError as error:
            raise self._lost(error) from error

    def _lost(self, error: BaseException) -> MgemError:
        reason = str(error) or type(error).__name__
        return self._unavailable(
            f"The server at {self.address} did not finish: {reason}. Run the command again; if the server has stopped, "
            "the models are loaded in the command itself."
        )


def _next(events: queue.SimpleQueue[_Read], cancel: threading.Event) -> _Read | None:
    """Wait for the next event; None after a cancellation, when all that has arrived is read."""
    while True:
        is_cancelled = cancel.is_set()
        try:
            return events.get(timeout=0 if is_cancelled else POLL_S)
        except queue.Empty:
            if is_cancelled:
                return None


def _unpacked(event: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" in event:
        raise decode_error(event["error"])
    return event


def _reason(response: HTTPResponse) -> str:
    text = response.read(10_000)
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status}"


def _shut(connection: HTTPConnection) -> None:
    """Close a connection that another thread may be reading."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
