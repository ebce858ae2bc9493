"""Show pictures in a terminal, or print their paths if it cannot show them.

The terminal is queried for its graphics support and answers on standard input. So it is queried once, before anything
else reads standard input, and only if stdin and stdout are terminals. With `NO_COLOR`, in a terminal without colours
and in a pipe, paths are printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mgem_agent.settings import PictureDisplay

__all__ = ["PictureWindow"]

ShownAs = Literal["sixel", "kitty", "blocks", "path", "none"]
"""The way in which pictures are shown."""

MAX_COLUMNS, MAX_ROWS = 120, 36
"""Maximum size of a picture in cells. Small pictures are enlarged to it, because a cell shows only two pixels."""

ROWS_LEFT = 4
"""Terminal rows that a picture leaves free for the text around it."""


class PictureWindow:
    """Shows pictures on a console.

    Args:
        console: The console.
        wanted: How to show them; `auto` picks the best way that the terminal supports.

    Attributes:
        shown_as: How they are shown.
    """

    def __init__(self, console: Console, wanted: PictureDisplay = "auto") -> None:
        self._console = console
        self._renderable: Callable[..., Any] | None = None
        self.shown_as: ShownAs = "path" if wanted == "auto" else wanted
        if wanted in ("path", "none"):
            return
        found = _renderables() if _can_draw(console) else {}
        best: ShownAs = found.get("best", "path")
        self.shown_as = best if wanted == "auto" else wanted if found else "path"
        self._renderable = found.get(self.shown_as)

    def show(self, path: str | Path, label: str = "") -> None:
        """Show a picture with a line of text below it.

        Args:
            path: The picture's file. The path is printed even if the file is missing.
            label: Text before the path.
        """
        from rich.text import Text

        if self.shown_as == "none":
            return
        if self._renderable is not None:
            self._draw(path)
        line = Text(f"{label}  " if label else "", style="bold")
        self._console.print(line.append(str(path), style="dim"), soft_wrap=True, highlight=False)

    def _draw(self, path: str | Path) -> None:
        from mgem_agent.core_model.image_loading import load_image
        from mgem_agent.errors import ImageError

        try:
            image = load_image(path)
        except ImageError as error:
            self._console.print(str(error), markup=False, highlight=False, style="yellow")
            return
        columns = min(self._console.width, MAX_COLUMNS)
        rows = max(min(self._console.height - ROWS_LEFT, MAX_ROWS), 1)
        if self._renderable is not None:
            # In a box of cells, "auto" keeps the picture's aspect ratio.
            self._console.print(self._renderable(image, width="auto", height="auto"), width=columns, height=rows)


def _can_draw(console: Console) -> bool:
    """Whether the console is a colour terminal that can be queried."""
    ends = (sys.__stdin__, sys.__stdout__)
    return (
        console.is_terminal
        and not console.no_color
        and console.color_system is not None
        and all(end is not None and end.isatty() for end in ends)
        and _has_size()
    )


def _has_size() -> bool:
    """Whether the terminal reports its size; pseudo-terminals made by programs often do not."""
    try:
        return all(os.get_terminal_size(1))
    except OSError:
        return False


def _renderables() -> dict[str, Any]:
    """Return the renderables by name, and the name of the `best` one; importing them queries the terminal."""
    from textual_image import renderable

    found: dict[str, Any] = {
        "sixel": renderable.SixelImage,
        "kitty": renderable.TGPImage,
        "blocks": renderable.HalfcellImage,
    }
    best = [name for name, kind in found.items() if kind is renderable.Image]
    return found | {"best": best[0] if best else "blocks"}
