"""The interface of a display, which shows the events of a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mgem_agent.agent.events import AgentEvent

__all__ = ["PictureNames", "TurnDisplay"]


class PictureNames(Protocol):
    """Returns the names by which the user can refer to pictures."""

    def __call__(self, artifact_id: str, call_id: str, /) -> str:
        """Return the name of the picture of a call, such as `[3]`."""
        ...


class TurnDisplay(Protocol):
    """Shows the events of turns."""

    def start(self) -> None:
        """Show activity until the first event arrives."""
        ...

    def show(self, event: AgentEvent) -> None:
        """Show an event."""
        ...

    def tell(self, message: str) -> None:
        """Show a message of the program."""
        ...

    def fail(self, message: str) -> None:
        """Show an error."""
        ...

    def hint_at(self, message: str) -> None:
        """Show what Ctrl-C is stopping; called from another thread."""
        ...

    def close(self) -> None:
        """Show all pending output and restore the terminal; the next event opens the display again."""
        ...
