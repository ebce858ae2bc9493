"""Show what `mgem bench` is measuring, on stderr: a bar at a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mgem_agent.cli.printing import open_console

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.recipes.bench.progress import BenchStep

__all__ = ["bench_bar"]


@contextmanager
def bench_bar(name: str, console: Console | None = None) -> Iterator[None]:
    """Show the steps of a benchmark inside a `with` block. Results are printed as they come.

    Args:
        name: Name of the benchmark.
        console: The console; a new one on stderr if not given.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = console or open_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(f"{name}: loading", total=None)
        shown = ""

        def show(step: BenchStep) -> None:
            nonlocal shown
            if step.result:
                bars.console.print(f"{name}: {step.result}", markup=False, highlight=False, soft_wrap=True)
                return
            bars.update(task, description=f"{name}: {step.what}", completed=step.done)
            bars.tasks[0].total = step.total or None  # update would keep the earlier total instead of None
            if bars.disable and step.what != shown:
                bars.console.print(f"{name}: {step.what}", markup=False, highlight=False, soft_wrap=True)
            shown = step.what

        from mgem_agent.recipes.bench.progress import reporting

        with reporting(show):
            yield
