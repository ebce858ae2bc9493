"""The report of an evaluation of the agent: scores, intervals, seconds and price of each condition."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.recipes.bench.comparison import Machine
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.run import ScoredTurn
from mgem_agent.recipes.eval.agent.soft_tifa import arithmetic_mean, by_atom_count, by_skill, geometric_mean
from mgem_agent.recipes.eval.bootstrap import Interval

__all__ = ["AgentReport", "ConditionResult"]


class ConditionResult(BaseModel):
    """Results of a condition. Scores are times 100.

    Attributes:
        am: Soft-TIFA AM; VQAScore for a judge of whole prompts.
        gm: Soft-TIFA GM; None for a judge of whole prompts.
        gain: Difference to the first condition, on the same prompts; None for the first.
        skills: Soft-TIFA AM by skill.
        atom_counts: Soft-TIFA GM by atom count.
        drawings: Mean number of drawings of a prompt.
        seconds: Median seconds of a prompt.
        usd: Mean US dollars of a prompt; None if no call has a known price.
        num_without_picture: Prompts without a picture, which score 0.
    """

    model_config = ConfigDict(frozen=True)

    am: Interval
    gm: Interval | None
    gain: Interval | None
    skills: dict[str, float]
    atom_counts: dict[int, float]
    drawings: float
    seconds: float
    usd: float | None
    num_without_picture: int


class AgentReport(BaseModel):
    """Results of all conditions.

    Attributes:
        prompts: File of the prompts.
        num_prompts: Number of prompts.
        reasoner: The reasoner, which judges in the loop.
        generator: The generator.
        judge: The judge of the figure.
        scoring: `soft`, `hard` or `vqascore`; see `figure_judge`.
        is_other_judge: Whether it is not the judge in the loop.
        conditions: Results by condition.
        machine: The machine of the measurement.
    """

    model_config = ConfigDict(frozen=True)

    prompts: str
    num_prompts: int
    reasoner: str
    generator: str
    judge: str
    scoring: Literal["soft", "hard", "vqascore"]
    is_other_judge: bool
    conditions: dict[str, ConditionResult]
    machine: Machine

    @classmethod
    def of(
        cls,
        prompts: Sequence[EvalPrompt],
        turns: Mapping[str, Sequence[ScoredTurn]],
        *,
        file: Path,
        reasoner: str,
        generator: str,
        judge: str,
        scoring: Literal["soft", "hard", "vqascore"],
        machine: Machine,
    ) -> Self:
        """Aggregate scored turns.

        Args:
            prompts: The prompts.
            turns: Scored turns of each condition, in the order of the prompts; the first is the reference.
            file: File of the prompts.
            reasoner: Name of the reasoner.
            generator: Name of the generator.
            judge: Name of the judge of the figure.
            scoring: How it scores.
            machine: The machine.
        """
        results: dict[str, ConditionResult] = {}
        reference: Sequence[float] | None = None
        for name, rows in turns.items():
            gms = [100 * geometric_mean(row.scores) for row in rows]
            ams = [100 * arithmetic_mean(row.scores) for row in rows]
            is_whole = scoring == "vqascore"
            results[name] = ConditionResult(
                am=Interval.of(ams),
                gm=None if is_whole else Interval.of(gms),
                gain=None if reference is None else Interval.of_difference(ams if is_whole else gms, reference),
                skills={} if is_whole else dict(by_skill(prompts, [row.scores for row in rows])),
                atom_counts={} if is_whole else dict(by_atom_count(prompts, [row.scores for row in rows])),
                drawings=statistics.fmean(row.drawings for row in rows),
                seconds=statistics.median(row.seconds for row in rows),
                usd=_price(rows),
                num_without_picture=sum(not row.has_picture for row in rows),
            )
            reference = reference if reference is not None else (ams if is_whole else gms)
        return cls(
            prompts=str(file),
            num_prompts=len(prompts),
            reasoner=reasoner,
            generator=generator,
            judge=judge,
            scoring=scoring,
            is_other_judge=judge != reasoner,
            conditions=results,
            machine=machine,
        )

    def render(self) -> RenderableType:
        """Return the report as tables for the terminal."""
        score = "VQAScore" if self.scoring == "vqascore" else "Soft-TIFA AM" if self.scoring == "soft" else "TIFA AM"
        titles = [score, *(() if self.scoring == "vqascore" else (score.replace("AM", "GM"),))]
        table = Table("", *titles, "gain", "drawings", "seconds", "USD")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, found in self.conditions.items():
            scores = [str(found.am), *(() if found.gm is None else (str(found.gm),))]
            price = "–" if found.usd is None else f"{found.usd:.4f}"
            gain = (
                ""
                if found.gain is None
                else f"{found.gain.mean:+.1f} ({found.gain.low:+.1f} to {found.gain.high:+.1f})"
            )
            table.add_row(name, *scores, gain, f"{found.drawings:.1f}", f"{found.seconds:.1f}", price)
        lines = [
            f"{self.num_prompts} prompts of {Path(self.prompts).name}; reasoner {self.reasoner}, generator "
            f"{self.generator}, judge {self.judge}. In brackets the 95 % bootstrap interval; gains are paired.",
            f"{self.machine.processor}; {self.machine.device}; torch {self.machine.torch}.",
        ]
        if self.scoring == "hard":
            lines.append("The judge gives no probabilities: answers are right or wrong, as in TIFA.")
        if not self.is_other_judge:
            lines.append(
                "The judge is also the judge in the loop, which favours looking. Do not compare these figures."
            )
        return Group(table, *map(Text, lines))


def _price(rows: Sequence[ScoredTurn]) -> float | None:
    """Return the mean price; None if calls were made whose price is unknown and none that is known."""
    total = sum(row.usd for row in rows)
    return None if not total and any(row.unpriced for row in rows) else total / len(rows)
