"""Print a table whose names are never cut: if they do not fit, lines become longer than the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_table"]

MAX_COLUMNS = 10_000


def print_table(console: Console, table: Table) -> None:
    """Print a table that is at least as wide as its unwrapped columns.

    Args:
        console: The console.
        table: The table; its name columns have `no_wrap=True` and `min_width`.
    """
    from rich.measure import Measurement
    from rich.segment import SegmentLines

    needed = Measurement.get(console, console.options.update(max_width=MAX_COLUMNS), table).minimum
    if needed <= console.width:
        console.print(table)
        return
    rows = console.render_lines(table, console.options.update(width=needed), pad=False)
    console.print(SegmentLines(rows, new_lines=True), end="", crop=False, no_wrap=True, soft_wrap=True)
