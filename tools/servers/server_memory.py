"""The memory of a generator's server, which shares the accelerator with this process if it runs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mgem_agent.device_memory.arbiter import shared_arbiter
from mgem_agent.device_memory.served_memory import ServedMemory
from mgem_agent.tools.servers.web_address import is_this_machine

__all__ = ["ServerMemory"]


class ServerMemory:
    """What the arbiter of device memory knows of a server.

    Args:
        address: Address of the server.
        name: Name of the generator.
        unload: Asks the server to free its memory.
    """

    def __init__(self, address: str, name: str, unload: Callable[[], None]) -> None:
        is_here = is_this_machine(urlsplit(address).hostname or "")
        self._memory = ServedMemory(name, unload) if is_here else None

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the server runs on this machine, judged by its address."""
        return self._memory is not None

    @contextmanager
    def held(self, is_cancelled: Callable[[], bool]) -> Iterator[None]:
        """Keep the accelerator for the server; nothing happens if it runs elsewhere.

        Args:
            is_cancelled: Asked while the call waits for its turn.

        Raises:
            GenerationCancelledError: If it was cancelled while it waited.
        """
        if self._memory is None:
            yield
            return
        with shared_arbiter().use(self._memory, is_cancelled):
            self._memory.note_work()
            yield
