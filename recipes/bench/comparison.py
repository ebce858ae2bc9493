"""The result of a benchmark: ours against a named alternative, as a table and as JSON.

Every benchmark returns one: `mgem bench mining --json`. Seconds are medians, with the fastest and the slowest run. On a
busy machine, the fastest is the most reliable.
"""

from __future__ import annotations

import statistics
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["BatchComparison", "Comparison", "Machine", "Run", "format_seconds", "format_times"]


class Machine(BaseModel):
    """The machine of a measurement."""

    model_config = ConfigDict(frozen=True)

    processor: str
    device: str
    num_threads: int
    torch: str
    transformers: str
    python: str
    system: str


class Run(BaseModel):
    """Measurements of one of the two implementations.

    Attributes:
        label: Its name.
        seconds: Each timed run.
        extra_memory_bytes: Peak memory in addition to inputs and weights.
        flops: Floating-point operations of matrix products, convolutions and attention.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    seconds: tuple[float, ...]
    extra_memory_bytes: int | None = None
    flops: int | None = None


class BatchComparison(BaseModel):
    """Eight scenes as one batch against one by one, with a generator whose batch of eight costs twice a single picture.

    Attributes:
        batch_run: The scenes as one batch.
        one_by_one_run: The same with a generator that takes one picture at a time.
    """

    model_config = ConfigDict(frozen=True)

    batch_run: Run
    one_by_one_run: Run

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float:
        """How many times faster the batch is, by the medians; the generator alone allows 4."""
        return statistics.median(self.one_by_one_run.seconds) / statistics.median(self.batch_run.seconds)


class Comparison(BaseModel):
    """Ours against the alternative. Ratios are alternative / ours: 10 is ten times faster, or a tenth of the memory.

    Attributes:
        name: The benchmark.
        setting: Description of the computation.
        note: Note on how to read the figures.
        ours_run: Measurements of ours.
        alternative_run: Measurements of the alternative.
        max_abs_difference: Largest absolute difference of each result.
        max_abs_value: Largest absolute value of each result of the alternative.
        machine: The machine of the measurement.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    setting: str
    note: str
    unit: Literal["s"] = "s"
    ours_run: Run
    alternative_run: Run
    max_abs_difference: dict[str, float]
    max_abs_value: dict[str, float]
    machine: Machine

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ours(self) -> float:
        """Median seconds of ours."""
        return statistics.median(self.ours_run.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def alternative(self) -> float:
        """Median seconds of the alternative."""
        return statistics.median(self.alternative_run.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float:
        """How many times faster ours is, by the medians."""
        return self.alternative / self.ours

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fastest_ratio(self) -> float:
        """How many times faster ours is, by the fastest run of each."""
        return min(self.alternative_run.seconds) / min(self.ours_run.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def memory_ratio(self) -> float | None:
        """How many times less extra memory ours needs at its peak."""
        return _divide(self.alternative_run.extra_memory_bytes, self.ours_run.extra_memory_bytes)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flops_ratio(self) -> float | None:
        """How many times fewer floating-point operations ours needs."""
        return _divide(self.alternative_run.flops, self.ours_run.flops)

    def tables(self) -> list[Table]:
        """Return the tables between the setting and the machine."""
        ours, other = self.ours_run, self.alternative_run
        table = Table("", ours.label, other.label, "ratio")
        for column in table.columns[1:]:
            column.justify = "right"
        for title, pick, ratio in (
            ("median", statistics.median, self.ratio),
            ("fastest", min, self.fastest_ratio),
            ("slowest", max, None),
        ):
            cells = [format_seconds(pick(run.seconds)) for run in (ours, other)]
            table.add_row(f"time, {title}", *cells, format_times(ratio))
        if ours.extra_memory_bytes is not None and other.extra_memory_bytes is not None:
            sizes = [f"{size / 2**20:,.1f} MiB" for size in (ours.extra_memory_bytes, other.extra_memory_bytes)]
            table.add_row("extra memory", *sizes, format_times(self.memory_ratio))
        if ours.flops is not None and other.flops is not None:
            counts = [f"{flops / 1e9:,.2f} GFLOP" for flops in (ours.flops, other.flops)]
            table.add_row("arithmetic", *counts, format_times(self.flops_ratio))
        return [table]

    def render(self) -> RenderableType:
        """Return the comparison as tables for the terminal."""
        machine = self.machine
        lines = [
            f"Largest difference of the {thing}: {difference:.1e} (values up to {self.max_abs_value[thing]:.1e})."
            for thing, difference in self.max_abs_difference.items()
        ]
        lines.append(f"Timed runs of each: {len(self.ours_run.seconds)}, in turns. {self.note}".rstrip())
        lines.append(
            f"{machine.processor}; {machine.device}, threads: {machine.num_threads}; torch {machine.torch}, "
            f"transformers {machine.transformers}, Python {machine.python}, {machine.system}."
        )
        return Group(Text(f"{self.name}: {self.setting}", "bold"), *self.tables(), *(Text(line) for line in lines))


def format_seconds(seconds: float | None) -> str:
    """Format seconds with a suitable unit; None is a dash."""
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def format_times(ratio: float | None) -> str:
    """Format a ratio; None is an empty cell."""
    return "" if ratio is None else f"{ratio:.1f}×"


def _divide(alternative: int | None, ours: int | None) -> float | None:
    return alternative / ours if alternative is not None and ours else None
