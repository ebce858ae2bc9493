"""The report of stories: a row for each story, the means, and what the scores were made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.recipes.bench.comparison import Machine
from mgem_agent.recipes.eval.bootstrap import Interval
from mgem_agent.recipes.eval.story.encoders import OFFICIAL_ENCODER
from mgem_agent.recipes.eval.story.measures import mean_or_zero
from mgem_agent.recipes.eval.story.scoring import StoryScore
from mgem_agent.recipes.eval.story.vistory import REALISTIC_HUMAN, VistoryStory

__all__ = ["StoryReport"]

_COLUMNS = {
    "cids_cross": "CIDS cross",
    "cids_self": "CIDS self",
    "csd_cross": "CSD cross",
    "csd_self": "CSD self",
    "occm": "OCCM",
    "copy_paste": "copy-paste",
}


class StoryReport(BaseModel):
    """Scores of a run.

    Attributes:
        method: Name of the method, or of its folder.
        scores: Scores of each story.
        contents: Encoder of characters.
        styles: Encoder of styles.
        detector: Finder of regions.
        threshold: Smallest similarity of a character that is found.
        judge: Judge of alignment, or None.
        comparable: Names of the scores that are made as ViStoryBench makes them.
        machine: The machine.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    scores: tuple[StoryScore, ...]
    contents: str
    styles: str
    detector: str
    threshold: float
    judge: str | None
    comparable: tuple[str, ...]
    machine: Machine

    @classmethod
    def of(
        cls,
        scores: Sequence[StoryScore],
        stories: Sequence[VistoryStory],
        *,
        contents: str,
        detector: str,
        **facts: object,
    ) -> Self:
        """Make the report.

        Args:
            scores: Scores of the stories.
            stories: The stories.
            contents: Encoder of characters.
            detector: Finder of regions.
            **facts: The other fields.
        """
        faces = any(each.tag == REALISTIC_HUMAN for story in stories for each in story.characters.values())
        is_official = contents == OFFICIAL_ENCODER and detector.startswith("grounding-dino:") and not faces
        comparable = ("cids_cross", "cids_self", "occm", "copy_paste") if is_official else ()
        return cls.model_validate(
            {"scores": tuple(scores), "contents": contents, "detector": detector, "comparable": comparable, **facts}
        )

    def means(self) -> dict[str, float | None]:
        """Return the mean of each score over the stories; None where no story has it."""
        found: dict[str, float | None] = {}
        for name in _COLUMNS:
            values = [value for score in self.scores if (value := getattr(score, name)) is not None]
            found[name] = mean_or_zero(values) if values else None
        return found

    def intervals(self) -> dict[str, Interval | None]:
        """Return the mean of each score with its 95 % bootstrap interval over the stories."""
        found: dict[str, Interval | None] = {}
        for name in _COLUMNS:
            values = [value for score in self.scores if (value := getattr(score, name)) is not None]
            found[name] = Interval.of(values) if values else None
        return found

    def gains(self, other: StoryReport) -> dict[str, Interval | None]:
        """Return the mean difference of each score to another run of the same stories, with its interval.

        Args:
            other: The run to compare with.
        """
        others = {score.story: score for score in other.scores}
        found: dict[str, Interval | None] = {}
        for name in _COLUMNS:
            pairs = [(getattr(each, name), getattr(others.get(each.story), name, None)) for each in self.scores]
            known = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
            found[name] = Interval.of_difference(*map(list, zip(*known, strict=True))) if known else None
        return found

    def render_gains(self, other: StoryReport) -> RenderableType:
        """Return the differences to another run as a table for the terminal.

        Args:
            other: The run to compare with.
        """
        table = Table("difference", *_COLUMNS.values())
        gains = self.gains(other).items()
        table.add_row("mean", *(_cell(name, None if gain is None else gain.mean) for name, gain in gains))
        table.add_row("from", *(_cell(name, None if gain is None else gain.low) for name, gain in gains))
        table.add_row("to", *(_cell(name, None if gain is None else gain.high) for name, gain in gains))
        told = f"{self.method} minus {other.method}, paired by story, with the 95 % bootstrap interval."
        return Group(table, Text(told))

    def render(self) -> RenderableType:
        """Return the report as a table for the terminal."""
        kinds = sorted({kind for score in self.scores for kind in score.alignment or {}})
        table = Table("story", *_COLUMNS.values(), *(f"alignment, {kind}" for kind in kinds), "missing")
        for column in table.columns[1:]:
            column.justify = "right"
        for score in self.scores:
            cells = [_cell(name, getattr(score, name)) for name in _COLUMNS]
            aligned = [_cell("alignment", (score.alignment or {}).get(kind)) for kind in kinds]
            table.add_row(score.story, *cells, *aligned, str(score.num_missing or ""))
        means = self.means()
        aligned = [
            _cell("alignment", mean_or_zero([score.alignment[kind] for score in self.scores if score.alignment]))
            for kind in kinds
        ]
        table.add_section()
        table.add_row("mean", *(_cell(name, means[name]) for name in _COLUMNS), *aligned, "")
        for end in ("low", "high"):
            cells = [
                _cell(name, None if each is None else getattr(each, end)) for name, each in self.intervals().items()
            ]
            table.add_row("from" if end == "low" else "to", *cells, *[""] * (len(kinds) + 1))
        others = [title for name, title in _COLUMNS.items() if name not in self.comparable]
        lines = [
            f"{self.method}: characters by {self.contents} in regions of {self.detector} (found from "
            f"{self.threshold:g}), styles by {self.styles}" + (f", alignment by {self.judge}." if self.judge else "."),
            f"By other models than ViStoryBench's, so not comparable with its published scores: {', '.join(others)}"
            + (", alignment." if kinds else "."),
            "From, to: the 95 % bootstrap interval of the mean over the stories.",
        ]
        return Group(table, *map(Text, lines))


def _cell(name: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if name == "occm" else f"{value:.3f}"
