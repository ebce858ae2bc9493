"""Run a blocking generator in a thread for asyncio, so that sync and async methods share their code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor
from typing import TypeVar

__all__ = ["in_thread"]

Event = TypeVar("Event")


async def in_thread(
    start: Callable[[], Generator[Event, None, None]],
    abandon: Callable[[], None],
    executor: Executor | None = None,
) -> AsyncGenerator[Event, None]:
    """Run a generator in a thread, and yield its items.

    Args:
        start: Creates the generator.
        abandon: Called if the iteration ends early or its task is cancelled. It must make a blocked generator yield
            soon; the generator is then closed.
        executor: Where the thread comes from; None for that of the event loop.

    Yields:
        The generator's items in order. Its exceptions are raised here.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[Event] | None] = asyncio.Queue()
    is_abandoned = threading.Event()

    def work() -> None:
        events = start()
        try:
            for event in events:
                loop.call_soon_threadsafe(queue.put_nowait, (event,))
                if is_abandoned.is_set():
                    break
        finally:
            events.close()
            loop.call_soon_threadsafe(queue.put_nowait, None)

    running = loop.run_in_executor(executor, contextvars.copy_context().run, work)
    try:
        while (item := await queue.get()) is not None:
            yield item[0]
        await running
    finally:
        if not running.done():
            is_abandoned.set()
            abandon()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # retrieve the exception, so that asyncio does not log it
