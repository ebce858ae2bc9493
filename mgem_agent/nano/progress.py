"""A progress bar on stderr for slow steps, if stderr is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["shown_progress"]


@contextmanager
def shown_progress(title: str, total_bytes: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar during a step; nothing if stderr is not a terminal.

    Args:
        title: Title of the bar.
        total_bytes: Total size; None if unknown.

    Yields:
        A function to call with the number of bytes done.
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
        except LiveError:  # the caller's display already uses the terminal
            is_shown = False
    try:
        yield lambda done: progress.update(task, completed=done)
    finally:
        if is_shown:
            progress.stop()
