"""What shows turns: a display takes the events of a turn, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mgem_agent.agent.events import AgentEvent

__all__ = ["PictureNames", "TurnDisplay"]


class PictureNames(Protocol):
    """Names pictures as a person may call them later."""

    def __call__(self, artifact_id: str, call_id: str, /) -> str:
        """Return the name of the picture of a call, such as `[3]`."""
        ...


class TurnDisplay(Protocol):
    """Shows the events of turns."""

    def start(self) -> None:
        """Show that something goes on, until the first event says what."""
        ...

    def show(self, event: AgentEvent) -> None:
        """Show what has happened."""
        ...

    def tell(self, message: str) -> None:
        """Show a sentence of ours, such as what Ctrl-C does."""
        ...

    def fail(self, message: str) -> None:
        """Show an error."""
        ...

    def hint_at(self, message: str) -> None:
        """Say what is being done about Ctrl-C; called from another thread."""
        ...

    def close(self) -> None:
        """Show what is held back, and leave the terminal as it was; the next event opens it again."""
        ...
