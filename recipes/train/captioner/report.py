"""The figures of a captioner's training: what pictures keep of held-out requests, and understanding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.recipes.bench.comparison import Machine
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.soft_tifa import by_skill
from mgem_agent.recipes.eval.bootstrap import Interval
from mgem_agent.recipes.train.captioner.drawn_captions import DrawnCaption

__all__ = ["CaptionerReport", "Measured"]


class Measured(BaseModel):
    """A measure before and after the training, times 100, on the same cases.

    Attributes:
        before: Mean before.
        after: Mean after.
        gain: The paired difference.
    """

    model_config = ConfigDict(frozen=True)

    before: Interval
    after: Interval
    gain: Interval

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Self:
        """Return the measure of paired cases.

        Args:
            before: Values before, from 0 to 1.
            after: Values after, in the same order.
        """
        first, second = [100 * value for value in before], [100 * value for value in after]
        return cls(before=Interval.of(first), after=Interval.of(second), gain=Interval.of_difference(second, first))


class CaptionerReport(BaseModel):
    """Results of a captioner's training.

    Attributes:
        method: How it was trained.
        model: The core model.
        generator: The generator.
        reward: The judge of the training.
        judge: The judge of the figure.
        num_requests: Requests that it was trained on.
        num_captions: Captions of each.
        num_pairs: Pairs that it learned from; None for GRPO.
        kept: Share of the atoms of a held-out request that its picture keeps (Soft-TIFA AM).
        skills: The same by kind of question: before and after.
        understanding: Right answers about held-out scenes; None if not measured.
        machine: The machine of the measurement.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    model: str
    generator: str
    reward: str
    judge: str
    num_requests: int
    num_captions: int
    num_pairs: int | None
    kept: Measured
    skills: dict[str, tuple[float, float]]
    understanding: Measured | None
    machine: Machine

    @staticmethod
    def kept_of(before: Sequence[DrawnCaption], after: Sequence[DrawnCaption]) -> Measured:
        """Return what the pictures of requests keep.

        Args:
            before: Captions before.
            after: Captions after, of the same requests.
        """
        return Measured.of([each.score for each in before], [each.score for each in after])

    @staticmethod
    def skills_of(
        requests: Sequence[EvalPrompt], before: Sequence[DrawnCaption], after: Sequence[DrawnCaption]
    ) -> dict[str, tuple[float, float]]:
        """Return the mean score of each kind of question, before and after.

        Args:
            requests: The requests.
            before: Captions before.
            after: Captions after.
        """
        if any(len(each.scores[0]) != len(request.skills) for request, each in zip(requests, before, strict=True)):
            return {}  # a judge of whole prompts
        first, second = (
            by_skill(
                [request for request, each in zip(requests, rows, strict=True) for _ in each.scores],
                [row for each in rows for row in each.scores],
            )
            for rows in (before, after)
        )
        return {skill: (first[skill], second[skill]) for skill in first}

    def render(self) -> RenderableType:
        """Return the report as a table for the terminal."""
        table = Table("", "before", "after", "gain")
        for column in table.columns[1:]:
            column.justify = "right"
        table.add_row("kept in the picture", str(self.kept.before), str(self.kept.after), _signed(self.kept.gain))
        for skill, (first, second) in self.skills.items():
            table.add_row(f"  {skill}", f"{first:.1f}", f"{second:.1f}", f"{second - first:+.1f}")
        if self.understanding is not None:
            seen = self.understanding
            table.add_row("understanding", str(seen.before), str(seen.after), _signed(seen.gain))
        lines = [
            f"{self.method} on {self.num_requests} requests with {self.num_captions} captions each"
            + ("." if self.num_pairs is None else f", which gave {self.num_pairs} pairs.")
            + f" Measured on {self.kept.gain.num} held-out requests"
            + (f" and {self.understanding.gain.num} questions." if self.understanding is not None else "."),
            f"Model {self.model}, generator {self.generator}, reward {self.reward}, judge {self.judge}. In brackets "
            "the 95 % bootstrap interval; gains are paired.",
            f"{self.machine.processor}; {self.machine.device}; torch {self.machine.torch}.",
        ]
        if self.judge == self.reward:
            lines.append("The judge is also the reward of the training, which favours the trained model.")
        return Group(table, *map(Text, lines))


def _signed(gain: Interval) -> str:
    return f"{gain.mean:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"
