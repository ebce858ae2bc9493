"""A report of benchmarks as one HTML file: the machine, the versions, and for each benchmark its tables and a plot.

The plots are inline SVG: a bar for each implementation, with the fastest and the slowest run. The file needs no network
and no script.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Protocol

import jinja2
from rich.console import Console, RenderableType

from mgem_agent import __version__
from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds
from mgem_agent.recipes.bench.start import CommandTime, StartTimes

__all__ = ["Bar", "BenchResult", "bars_of", "report_html", "write_report"]

PACKAGES = ("torch", "transformers", "diffusers", "langchain", "langgraph", "numpy", "Pillow")
WIDTH = 110
TEMPLATE = "report.html.jinja"


class BenchResult(Protocol):
    """What a benchmark returns."""

    def render(self) -> RenderableType:
        """Return its tables for the terminal."""
        ...

    def model_dump(self, *, mode: Any = ...) -> dict[str, Any]:
        """Return it as JSON."""
        ...


class Bar:
    """A bar of a plot.

    Args:
        label: Name of the implementation.
        seconds: Its timed runs.
        longest_s: Seconds of the longest run of the plot.
        is_ours: Whether it is an implementation of this package.

    Attributes:
        label: As above.
        text: Its median with a unit.
        median: Length of the bar, as a share of the longest run.
        fastest: The fastest run, likewise.
        slowest: The slowest run, likewise.
        is_ours: As above.
    """

    def __init__(self, label: str, seconds: Sequence[float], longest_s: float, *, is_ours: bool) -> None:
        self.is_ours = is_ours
        self.label = label
        self.text = format_seconds(statistics.median(seconds))
        self.median = statistics.median(seconds) / longest_s
        self.fastest = min(seconds) / longest_s
        self.slowest = max(seconds) / longest_s


def bars_of(result: BenchResult) -> list[Bar]:
    """Return the bars of a result; none if it has no timed runs."""
    timed: list[Run | CommandTime] = []
    ours: Sequence[Run | CommandTime] = ()
    if isinstance(result, Comparison):
        ours, timed = [result.ours_run], [result.ours_run, result.alternative_run]
    elif isinstance(result, StartTimes):
        ours, timed = result.commands, [result.baseline, *result.commands]
    longest_s = max((max(each.seconds) for each in timed), default=0.0)
    return [Bar(each.label, each.seconds, longest_s, is_ours=each in ours) for each in timed] if longest_s else []


def report_html(results: Mapping[str, BenchResult], skipped: Mapping[str, str] | None = None) -> str:
    """Return the report.

    Args:
        results: The results, by the names of the benchmarks.
        skipped: Why benchmarks were not run, by name.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("mgem_agent.recipes.bench").joinpath(TEMPLATE).read_text(encoding="utf-8")
    parts = [{"name": name, "tables": _as_text(each), "bars": bars_of(each)} for name, each in results.items()]
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.from_string(source).render(
        parts=parts, skipped=skipped or {}, machine=_machine(results), versions=_versions(), made=made
    )


def write_report(path: Path, results: Mapping[str, BenchResult], skipped: Mapping[str, str] | None = None) -> None:
    """Write the report to a file; arguments as for `report_html`.

    Raises:
        ToolError: If it cannot be written.
    """
    write_atomically(path, report_html(results, skipped).encode())


def _as_text(result: BenchResult) -> str:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, width=WIDTH, record=True, force_terminal=False)
        console.print(result.render())
        return console.export_text()


def _machine(results: Mapping[str, BenchResult]) -> dict[str, Any]:
    """Return facts of the machine by name."""
    known = next((each.machine for each in results.values() if isinstance(each, Comparison)), None)
    return {
        "processor": known.processor if known else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "device": known.device if known else "cpu",
        "threads": known.num_threads if known else "",
        "system": platform.platform(),
        "load at the end": " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "",
    }


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):  # not on this system
        return "unknown"


def _versions() -> dict[str, str]:
    found = {"mgem-agent": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
