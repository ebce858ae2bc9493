"""The models of a server on this machine, which only the server itself can unload."""

from __future__ import annotations

from collections.abc import Callable

from mgem_agent.device_memory.model_size import ModelSize

__all__ = ["ServedMemory"]


class ServedMemory:
    """A server that shares the accelerator with the models of this process.

    Nothing tells how much memory it takes. It is asked to free it, and loads its models again by itself.

    Args:
        name: Name of the generator.
        unload: Asks the server to free its memory.
    """

    is_served = True
    """Its memory belongs to another process."""
    is_movable = False
    """It cannot be moved, only freed."""
    is_resting = False
    """It needs no move back: the server loads what it needs."""
    device = "any"
    """Any accelerator of this machine."""

    def __init__(self, name: str, unload: Callable[[], None]) -> None:
        self.name = name
        self._unload = unload
        self._has_worked = False

    def size(self) -> ModelSize | None:
        """Return None: the server does not say what it needs."""
        return None

    def note_work(self) -> None:
        """Record that the server has loaded models."""
        self._has_worked = True

    def resident_bytes(self) -> int:
        """Return 1 if the server may hold models, 0 if it was asked to free them since."""
        return int(self._has_worked)

    def to_home(self) -> None:
        """Do nothing: the server loads its models."""

    def to_rest(self) -> None:
        """Do nothing: the server can only be asked to free its memory."""

    def unload(self) -> None:
        """Ask the server to free its memory."""
        self._has_worked = False
        self._unload()
