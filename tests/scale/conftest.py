"""A handle of Ray Serve without Ray: calls run in an event loop of this process, and all that passes is pickled."""

from __future__ import annotations

import asyncio
import pickle
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest


class LocalHandle:
    """A handle of one replica.

    Args:
        replica: The replica, whose methods are asynchronous.
        is_stream: Whether calls return streams.
    """

    def __init__(self, replica: Any, *, is_stream: bool = False) -> None:
        self._replica = replica
        self._is_stream = is_stream

    def options(self, *, stream: bool) -> LocalHandle:
        return LocalHandle(self._replica, is_stream=stream)

    def __getattr__(self, name: str) -> Any:
        return _Method(getattr(self._replica, name), self._is_stream)


class _Method:
    def __init__(self, method: Any, is_stream: bool) -> None:
        self._method, self._is_stream = method, is_stream

    def remote(self, *arguments: Any) -> Any:
        sent = pickle.loads(pickle.dumps(arguments))
        return _Stream(self._method(*sent)) if self._is_stream else _Response(self._method(*sent))


class _Response:
    def __init__(self, awaitable: Any) -> None:
        self._awaitable = awaitable

    def result(self) -> Any:
        return pickle.loads(pickle.dumps(asyncio.run(self._awaitable)))


class _Stream:
    """Reads an asynchronous iterator in a thread with a loop of its own."""

    def __init__(self, events: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, args=(events,), daemon=True)
        self._thread.start()

    def _run(self, events: Any) -> None:
        async def read() -> None:
            try:
                async for event in events:
                    self._found.put(pickle.dumps(event))
            finally:
                await events.aclose()
                self._found.put(None)

        self._task = self._loop.create_task(read())
        try:
            self._loop.run_until_complete(self._task)
        except (asyncio.CancelledError, RuntimeError):
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def __iter__(self) -> Iterator[Any]:
        while (event := self._found.get()) is not None:
            yield pickle.loads(event)

    def cancel(self) -> None:
        if self._task is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout=5)


@pytest.fixture
def local_handle() -> type[LocalHandle]:
    """The class of handles without Ray."""
    return LocalHandle
