"""A generator that blocks, run in a thread for an event loop: the code of both worlds is one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TypeVar

__all__ = ["in_thread"]

Event = TypeVar("Event")


async def in_thread(
    start: Callable[[], Generator[Event, None, None]], abandon: Callable[[], None]
) -> AsyncGenerator[Event, None]:
    """Run a generator in a thread, and pass on what it yields.

    Args:
        start: Makes the generator.
        abandon: Called where the iteration is given up before its end, or its task is cancelled; it makes a generator
            that blocks come to its next event soon, after which the generator is closed.

    Yields:
        What the generator yields, in order; what it raises is raised here.
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

    running = loop.run_in_executor(None, contextvars.copy_context().run, work)
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
                running.exception()  # asked for, so that asyncio does not report what nobody waits for
