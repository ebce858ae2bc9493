"""What a person sees of a turn: a display takes its events, one after the other.

There is one for a terminal, one for pipes, and one that writes events as JSON for programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.agent_events import AgentEvent
    from mgem_agent.cli.picture_display import PictureWindow

__all__ = ["PictureNames", "TurnDisplay", "open_display"]


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


def open_display(
    console: Console, errors: Console, window: PictureWindow, *, as_json: bool, name_of: PictureNames
) -> TurnDisplay:
    """Return what shows turns here.

    Args:
        console: For what is said and drawn.
        errors: For everything else, where `console` is no terminal.
        window: Shows pictures.
        as_json: Whether events are written as JSON.
        name_of: Names pictures.
    """
    if as_json:
        from mgem_agent.cli.turn_display_json import JsonTurnDisplay

        return JsonTurnDisplay(console.file)
    if console.is_terminal and not console.is_dumb_terminal:
        from mgem_agent.cli.turn_display_terminal import TerminalTurnDisplay

        return TerminalTurnDisplay(console, window, name_of)
    from mgem_agent.cli.turn_display_plain import PlainTurnDisplay

    return PlainTurnDisplay(console.file, errors, shows_paths=window.shown_as != "none")
