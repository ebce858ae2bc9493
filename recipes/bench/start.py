"""How long a command takes from its start to its result, compared with the import of torch: `mgem bench start --json`.

Each command runs in its own process, with nano's weights in the cache. No command that uses torch can be faster than
`python -c "import torch"` on the same machine, so that is the baseline. On a busy machine, CPU time is more reliable
than wall-clock time.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, computed_field
from rich.console import RenderableType
from rich.table import Table

from mgem_agent.errors import MgemError
from mgem_agent.recipes.bench.progress import report

__all__ = ["CommandTime", "StartTimes", "bench_start"]

_BASELINE = 'python -c "import torch"'


class CommandTime(BaseModel):
    """Measurements of a command.

    Attributes:
        label: Its name.
        seconds: Wall-clock seconds of each run.
        processor_seconds: CPU seconds, user and system, of each run.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]


class StartTimes(BaseModel):
    """Commands, compared with a baseline.

    Attributes:
        baseline: The baseline.
        commands: The commands.
    """

    model_config = ConfigDict(frozen=True)

    baseline: CommandTime
    commands: tuple[CommandTime, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratios(self) -> dict[str, float]:
        """Median CPU seconds of each command, as multiples of the baseline's."""
        base = statistics.median(self.baseline.processor_seconds)
        return {each.label: statistics.median(each.processor_seconds) / base for each in self.commands}

    def render(self) -> RenderableType:
        """Return the times as a table for the terminal."""
        table = Table("", "time, median", "fastest", "processor", "ratio")
        for column in table.columns[1:]:
            column.justify = "right"
        for each in (self.baseline, *self.commands):
            ratio = self.ratios.get(each.label)
            figures = (statistics.median(each.seconds), min(each.seconds), statistics.median(each.processor_seconds))
            times = [f"{figure:.2f} s" for figure in figures]
            table.add_row(each.label, *times, "" if ratio is None else f"{ratio:.2f}×")
        return table


def bench_start(*, repeats: int = 3, server: bool = False) -> StartTimes:
    """Measure `mgem draw`, `mgem see` and the start of `mgem chat`, with nano.

    Args:
        repeats: Timed runs of each, after one that fills the caches.
        server: Whether to also measure both with a running `mgem serve`.

    Raises:
        MgemError: If a command fails.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        picture = str(Path(folder) / "picture.png")
        mgem = (sys.executable, "-m", "mgem_agent")
        ours = {
            "mgem draw": (*mgem, "draw", "a red fox", "--generator", "nano", "--out", picture),
            "mgem see": (*mgem, "see", picture, "What do you see?", "--model", "nano"),
        }
        ready = {"mgem chat, ready": (*mgem, "chat", "--model", "nano", "--generator", "nano")}  # its input is empty
        commands: dict[str, Sequence[str]] = {_BASELINE: (sys.executable, "-c", "import torch"), **ours, **ready}
        environment = {f"MGEM_{name.upper()}": str(Path(folder) / name) for name in ("store", "sessions")}
        environment["MGEM_USE_SERVER"] = "false"
        if server:
            stack.enter_context(_running_server(environment))
            commands |= {f"{label}, served": ("env", "MGEM_USE_SERVER=true", *line) for label, line in ours.items()}
        return time_commands(commands, repeats=repeats, environment=environment)


@contextmanager
def _running_server(environment: Mapping[str, str]) -> Iterator[None]:
    """Run `mgem serve` with nano on a free port.

    Raises:
        MgemError: If it does not start.
    """
    line = (sys.executable, "-m", "mgem_agent", "serve", "--model", "nano", "--generator", "nano", "--port", "0")
    with subprocess.Popen(
        line, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            if process.stdout is None or not process.stdout.readline().startswith("Serving at"):
                raise MgemError("'mgem serve' did not start. Run it to see why: mgem serve --model nano --port 0")
            yield
        finally:
            process.terminate()


def time_commands(
    commands: Mapping[str, Sequence[str]], *, repeats: int, environment: Mapping[str, str] | None = None
) -> StartTimes:
    """Run commands in turns and measure them; the first is the baseline.

    Args:
        commands: Programs with their arguments, by their labels.
        repeats: Timed runs of each, after one untimed run.
        environment: Additional environment variables.

    Raises:
        MgemError: If a command fails.
    """
    environment = {**os.environ, **(environment or {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once, not at each start
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in commands}
    turns = [label for _ in range(repeats + 1) for label in commands]
    for place, label in enumerate(turns):
        report(label, place, len(turns))
        times[label].append(_run(label, commands[label], environment))
        report(label, result=f"{label}: {times[label][-1][0]:.2f} s")
    measured = [
        CommandTime(
            label=label,
            seconds=tuple(row[0] for row in rows[1:]),
            processor_seconds=tuple(row[1] for row in rows[1:]),
        )
        for label, rows in times.items()
    ]
    return StartTimes(baseline=measured[0], commands=tuple(measured[1:]))


def _run(label: str, command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the wall-clock and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise MgemError(f"{label!r} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
