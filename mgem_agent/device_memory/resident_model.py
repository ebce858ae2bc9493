"""What the arbiter asks of a model."""

from __future__ import annotations

from typing import Literal, Protocol

from mgem_agent.device_memory.model_size import ModelSize

__all__ = ["MemoryPolicy", "ResidentModel"]

MemoryPolicy = Literal["auto", "keep", "swap", "unload"]
"""What happens to the idle model when another one works.

`keep` leaves it on the device, `swap` moves it to main memory, `unload` frees it, and `auto` keeps both where they fit
and otherwise swaps, or unloads where main memory is short."""


class ResidentModel(Protocol):
    """A model that may be moved off its device while it is idle.

    The arbiter calls the methods that change something only while nobody uses the model.
    """

    @property
    def name(self) -> str:
        """Its name, for messages."""
        ...

    @property
    def device(self) -> str:
        """The device that runs it, such as `cuda:0`."""
        ...

    @property
    def is_served(self) -> bool:
        """Whether a server on this machine runs it, so that its memory belongs to another process."""
        ...

    @property
    def is_movable(self) -> bool:
        """Whether its weights may move; those that are spread over several devices may not."""
        ...

    @property
    def is_resting(self) -> bool:
        """Whether a move has taken its weights, or some of them, off the device."""
        ...

    def size(self) -> ModelSize | None:
        """Return what it needs, also before it is loaded; None if that is unknown."""
        ...

    def resident_bytes(self) -> int:
        """Return the bytes of its weights that are on the device now; for a server, 0 if it has nothing to free."""
        ...

    def to_home(self) -> None:
        """Move its weights to the device."""
        ...

    def to_rest(self) -> None:
        """Move its weights to main memory; after an error it is still resting, and `to_home` repairs it."""
        ...

    def unload(self) -> None:
        """Free its weights; the next call loads them again."""
        ...
