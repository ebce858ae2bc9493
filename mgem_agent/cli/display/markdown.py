"""Render Markdown while it streams.

Final lines are printed once and scroll away like any other output. Only the last lines, which the next word may still
change, are redrawn. So a long answer loses no line, does not flicker, and can be scrolled back.

A Markdown block is final when the line that begins the next block is complete. In a block that is longer than the
window, such as a code block, lines above the window are final too. A very long code block is split into pieces, so that
it is not highlighted from its beginning each time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mgem_agent.tools.printable_text import terminal_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

__all__ = ["MarkdownStream"]

WINDOW_ROWS = 8
MAX_LISTING_LINES = 60
CODE_THEME = "ansi_dark"


class MarkdownStream:
    """Growing Markdown text as lines for a console; `window` may be called from another thread.

    Args:
        console: The console.
    """

    def __init__(self, console: Console) -> None:
        from markdown_it import MarkdownIt

        self._console = console
        self._lock = threading.Lock()
        self._parser = MarkdownIt().enable("strikethrough").enable("table")
        self._text = ""
        self._num_settled_rows = 0
        self._width = console.width
        self._is_joined = True

    @property
    def is_empty(self) -> bool:
        """Whether all text is final."""
        return not self._text.strip()

    def feed(self, text: str) -> list[list[Segment]]:
        """Add text, and return the lines that became final.

        Args:
            text: The next piece.
        """
        with self._lock:
            self._text += terminal_text(text)
            return self._settle() if "\n" in text else []

    def _settle(self) -> list[list[Segment]]:
        settled, self._text = split_settled(self._text, self._parser)
        rows = [row for block in settled for row in self._take(block)]
        here = self._rows(self._text)
        if (surplus := len(here) - WINDOW_ROWS) > self._num_settled_rows:
            rows += here[self._num_settled_rows : surplus]
            self._num_settled_rows = surplus
        return rows + self._cut_listing()

    def window(self) -> list[list[Segment]]:
        """Return the lines that may still change."""
        with self._lock:
            return self._rows(self._text)[self._num_settled_rows :]

    def finish(self) -> list[list[Segment]]:
        """Return the remaining lines, and reset the stream."""
        with self._lock:
            settled, rest = split_settled(self._text + "\n", self._parser)
            rows = [row for block in (*settled, rest) if block.strip() for row in self._take(block)]
            self._text, self._is_joined = "", True
            return rows

    def _take(self, block: str) -> list[list[Segment]]:
        """Return the lines of a complete block that were not final before."""
        rows = self._rows(block)[self._num_settled_rows :]
        self._num_settled_rows, self._width, self._is_joined = 0, self._console.width, False
        return rows

    def _cut_listing(self) -> list[list[Segment]]:
        """Finalize all but the last lines of a long code block that is still open."""
        lines = self._text.split("\n")
        if len(lines) <= MAX_LISTING_LINES:
            return []
        tokens = self._parser.parse(self._text)
        if len(tokens) != 1 or tokens[0].type != "fence" or tokens[0].map != [0, len(lines) - 1]:
            return []
        opening, kept = lines[0], lines[-WINDOW_ROWS:]
        rows = self._take("\n".join(lines[:-WINDOW_ROWS]))
        self._text, self._is_joined = "\n".join([opening, *kept]), True
        return rows

    def _rows(self, block: str) -> list[list[Segment]]:
        """Render a block as lines, with a blank line before it if another block is above.

        The width is the console's width when the block began, because rewrapping would change lines that are final.
        """
        from rich.markdown import Markdown

        if not block.strip():
            return []
        shown: Any = Markdown(block.strip("\n"), code_theme=CODE_THEME)
        rows = self._console.render_lines(shown, self._console.options.update_width(self._width), pad=False)
        rows = [_without_end(row) for row in rows]
        while rows and not rows[0]:
            rows = rows[1:]
        while rows and not rows[-1]:
            rows = rows[:-1]
        return rows if self._is_joined else [[], *rows]


def split_settled(text: str, parser: Any) -> tuple[list[str], str]:
    r"""Split Markdown into the blocks that further text cannot change, and the rest.

    Args:
        text: Text that starts at the beginning of a block.
        parser: A `markdown_it.MarkdownIt`.

    Examples:
        >>> from markdown_it import MarkdownIt
        >>> split_settled("One.\n\n- two\n- thr", MarkdownIt())
        (['One.\n\n'], '- two\n- thr')
    """
    complete = text[: text.rfind("\n") + 1]
    starts = [token.map[0] for token in parser.parse(complete) if token.level == 0 and token.map and token.nesting >= 0]
    if len(starts) < 2:
        return [], text
    lines = [line + "\n" for line in complete.split("\n")[:-1]]
    blocks = ["".join(lines[start:end]) for start, end in zip([0, *starts[1:-1]], starts[1:], strict=True)]
    return blocks, "".join(lines[starts[-1] :]) + text[len(complete) :]


def _without_end(row: list[Segment]) -> list[Segment]:
    """Return a line without invisible trailing spaces."""
    from rich.segment import Segment

    row = list(row)
    while row and not row[-1].control:
        last = row[-1]
        if last.style is not None and (last.style.bgcolor is not None or last.style.underline):
            break
        kept = last.text.rstrip(" ")
        row = row[:-1]
        if kept:
            row.append(Segment(kept, last.style))
            break
    return row
