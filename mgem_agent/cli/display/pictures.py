"""Pictures in a terminal: drawn where it can show them, named by their path where it cannot.

What a terminal can show is asked of the terminal itself, which answers on standard input: so it is asked once, before
anything else reads from there, and only where both ends are a terminal. `NO_COLOR`, a terminal without colours and a
pipe get the path.
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

__all__ = ["PictureWindow", "ShownAs"]

ShownAs = Literal["sixel", "kitty", "blocks", "path", "none"]
"""How pictures are shown in the end."""

MAX_COLUMNS, MAX_ROWS = 120, 36
"""Cells that a picture takes at most; a small one is enlarged to them, since a cell shows only two of its pixels."""

ROWS_LEFT = 4
"""Rows of the terminal that a picture leaves to what stands around it."""


class PictureWindow:
    """Shows pictures on a console.

    Args:
        console: Where they are shown.
        wanted: How; `auto` takes the best that the terminal can do.

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
        """Show a picture, and a line below it.

        Args:
            path: Its file. One that is gone is named all the same.
            label: What is known of it, before its path.
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
            # Given a box of cells, "auto" keeps the shape of the picture within it.
            self._console.print(self._renderable(image, width="auto", height="auto"), width=columns, height=rows)


def _can_draw(console: Console) -> bool:
    """Whether a terminal in colour is there, and can be asked what it shows."""
    ends = (sys.__stdin__, sys.__stdout__)
    return (
        console.is_terminal
        and not console.no_color
        and console.color_system is not None
        and all(end is not None and end.isatty() for end in ends)
        and _has_size()
    )


def _has_size() -> bool:
    """Whether the terminal says how large it is; those that programs make for programs often do not."""
    try:
        return all(os.get_terminal_size(1))
    except OSError:
        return False


def _renderables() -> dict[str, Any]:
    """What draws a picture, by name, and the `best` of the names; to import it is to ask the terminal."""
    from textual_image import renderable

    found: dict[str, Any] = {
        "sixel": renderable.SixelImage,
        "kitty": renderable.TGPImage,
        "blocks": renderable.HalfcellImage,
    }
    best = [name for name, kind in found.items() if kind is renderable.Image]
    return found | {"best": best[0] if best else "blocks"}
