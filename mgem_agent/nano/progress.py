"""A line on stderr that says what takes long, where someone is at a terminal to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["shown_progress"]


@contextmanager
def shown_progress(title: str, total_bytes: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar for as long as something takes; nothing where stderr is no terminal.

    Args:
        title: What is being done.
        total_bytes: How much there is of it; None where that is not known.

    Yields:
        What to call with how much of it is done, in bytes.
    """
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = [DownloadColumn(), TimeRemainingColumn()] if total_bytes is not None else []
    progress = Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console, transient=True)
    task = progress.add_task(title, total=total_bytes)
    is_shown = console.is_terminal
    if is_shown:
        try:
            progress.start()
        except LiveError:  # a caller's own display has the terminal
            is_shown = False
    try:
        yield lambda done: progress.update(task, completed=done)
    finally:
        if is_shown:
            progress.stop()
