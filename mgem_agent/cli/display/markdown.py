"""Markdown that is shown while it is still being written.

What cannot change any more is printed once and scrolls away like any other output; only the last lines, which the next
word may still change, are drawn again. So an answer of any length loses no line and does not flicker, and the terminal
can be scrolled back through all of it.

A block of Markdown is settled when the line that begins the next one is complete. Of a block that is longer than the
window, such as a listing, lines that have left the window are settled too; a listing of hundreds of lines is cut in
pieces on its way, so that it is not coloured from its beginning each time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mgem_agent.tools.printable_text import terminal_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

__all__ = ["MarkdownStream", "split_settled"]

WINDOW_ROWS = 8
MAX_LISTING_LINES = 60
CODE_THEME = "ansi_dark"


class MarkdownStream:
    """Text that grows, as lines for a console; the window may be asked for by another thread.

    Args:
        console: Where it is shown.
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
        """Whether nothing is left that is not settled."""
        return not self._text.strip()

    def feed(self, text: str) -> list[list[Segment]]:
        """Add text, and return the lines that are settled by it.

        Args:
            text: What comes next.
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
        """Return what is left, and begin anew."""
        with self._lock:
            settled, rest = split_settled(self._text + "\n", self._parser)
            rows = [row for block in (*settled, rest) if block.strip() for row in self._take(block)]
            self._text, self._is_joined = "", True
            return rows

    def _take(self, block: str) -> list[list[Segment]]:
        """The lines of a block that is complete, without those that were settled before."""
        rows = self._rows(block)[self._num_settled_rows :]
        self._num_settled_rows, self._width, self._is_joined = 0, self._console.width, False
        return rows

    def _cut_listing(self) -> list[list[Segment]]:
        """Settle all but the last lines of a listing that is long and still open."""
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
        """A block as lines, a blank one before it where another block stands above.

        The width is that of the console when the block began: were it to change within, lines would not be the same
        ones any more.
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
    r"""Part Markdown into the blocks that no further text can change, and the rest.

    Args:
        text: From the beginning of a block on.
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
    """A line without the blanks at its end that nobody sees."""
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
