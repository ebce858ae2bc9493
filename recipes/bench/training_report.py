"""The figures of `mgem bench train`, as tables and as JSON."""

from __future__ import annotations

import math
import statistics

from pydantic import BaseModel, ConfigDict, computed_field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.recipes.bench.comparison import Machine, format_seconds

__all__ = ["PipelineSpeed", "TrainingComparison", "TrainingRun"]

_RANKS = 8


class TrainingRun(BaseModel):
    """One way of training.

    Attributes:
        label: Its name.
        seconds: Each timed step.
        tokens: Tokens of each step, without padding.
        rows: Places of each step in the language model, with padding.
        first_loss: Loss before the first update.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    rows: tuple[int, ...]
    first_loss: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens_per_second(self) -> float:
        """Median over the steps."""
        return statistics.median(count / time for count, time in zip(self.tokens, self.seconds, strict=True))

    @property
    def padding(self) -> float:
        """Share of the places that are padding."""
        return 1 - sum(self.tokens) / sum(self.rows)


class PipelineSpeed(BaseModel):
    """The input pipeline alone, on one core: reading, tokenising, decoding and scaling.

    Attributes:
        num_records: Number of records.
        seconds: Seconds of all.
    """

    model_config = ConfigDict(frozen=True)

    num_records: int
    seconds: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def records_per_second(self) -> float:
        """Records a second."""
        return self.num_records / self.seconds


class TrainingComparison(BaseModel):
    """Ways of training the same model on the same records.

    Attributes:
        setting: Description of the model and the step.
        runs: The ways; the last is the alternative.
        flops_per_token: Operations of the language model for a token.
        peak_flops: Measured operations a second of a large product in the run's format.
        bf16_peak_flops: The same in bfloat16.
        batch: Records of a step.
        pipeline: The input pipeline.
        machine: The machine of the measurement.
    """

    model_config = ConfigDict(frozen=True)

    setting: str
    runs: tuple[TrainingRun, ...]
    flops_per_token: float
    peak_flops: float
    bf16_peak_flops: float
    batch: int
    pipeline: PipelineSpeed
    machine: Machine

    def share(self, run: TrainingRun, peak: float) -> float:
        """Return which share of a peak a run reaches (MFU).

        Args:
            run: The run.
            peak: Operations a second.
        """
        return run.tokens_per_second * self.flops_per_token / peak

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratios(self) -> dict[str, float]:
        """Tokens a second of each way, as multiples of the last one's."""
        return {run.label: run.tokens_per_second / self.runs[-1].tokens_per_second for run in self.runs}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cores_of_8_ranks(self) -> int:
        """Cores that feed eight processes which are each as fast as the fastest way here."""
        fastest = max(self.runs, key=lambda run: run.tokens_per_second)
        records_per_second = self.batch / statistics.median(fastest.seconds)
        return math.ceil(_RANKS * records_per_second / self.pipeline.records_per_second)

    def render(self) -> RenderableType:
        """Return the figures as a table for the terminal."""
        table = Table("", "step, median", "tokens/s", "padding", "of peak", "of bf16 peak", "ratio", "first loss")
        for column in table.columns[1:]:
            column.justify = "right"
        for run in self.runs:
            shares = [f"{100 * self.share(run, peak):.1f} %" for peak in (self.peak_flops, self.bf16_peak_flops)]
            table.add_row(
                run.label,
                format_seconds(statistics.median(run.seconds)),
                f"{run.tokens_per_second:,.0f}",
                f"{100 * run.padding:.0f} %",
                *shares,
                f"{self.ratios[run.label]:.2f}×",
                f"{run.first_loss:.4f}",
            )
        machine = self.machine
        lines = [
            f"Timed steps of each: {len(self.runs[0].seconds)}. Measured peak: {self.peak_flops / 1e9:,.0f} GFLOP/s in "
            f"this format, {self.bf16_peak_flops / 1e9:,.0f} in bfloat16.",
            f"Input pipeline: {self.pipeline.records_per_second:,.1f} records a second on one core. Eight processes as "
            f"fast as the fastest row need {self.cores_of_8_ranks} core(s) for it.",
            f"{machine.processor}; {machine.device}, threads: {machine.num_threads}; torch {machine.torch}, "
            f"transformers {machine.transformers}, Python {machine.python}, {machine.system}.",
        ]
        return Group(Text(f"training: {self.setting}", "bold"), table, *(Text(line) for line in lines))
