"""The display of a turn that fits where it is shown: a terminal, a pipe, or a program that reads JSON lines."""

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
    """Return what shows turns here.

    Args:
        console: For what is said and drawn.
        errors: For everything else, where `console` is no terminal.
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
