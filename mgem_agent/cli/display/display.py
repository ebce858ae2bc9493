"""Choose the display of turns: for a terminal, for a pipe, or as JSON Lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.cli.display.contract import PictureNames, TurnDisplay
    from mgem_agent.cli.display.pictures import PictureWindow

__all__ = ["open_display"]


def open_display(
    console: Console, errors: Console, window: PictureWindow, *, as_json: bool, name_of: PictureNames
) -> TurnDisplay:
    """Return the display that suits the console.

    Args:
        console: Console for answers and pictures.
        errors: Console for other messages, if `console` is not a terminal.
        window: Shows pictures.
        as_json: Whether events are written as JSON.
        name_of: Names pictures.
    """
    if as_json:
        from mgem_agent.cli.display.json_lines import JsonTurnDisplay

        return JsonTurnDisplay(console.file)
    if console.is_terminal and not console.is_dumb_terminal:
        from mgem_agent.cli.display.terminal import TerminalTurnDisplay

        return TerminalTurnDisplay(console, window, name_of)
    from mgem_agent.cli.display.plain import PlainTurnDisplay

    return PlainTurnDisplay(console.file, errors, shows_paths=window.shown_as != "none")
