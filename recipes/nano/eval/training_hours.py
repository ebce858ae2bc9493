"""The duration of a training from its log: the time between lines, without breaks."""

from __future__ import annotations

import itertools
import re
import statistics
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.run_log import read_log

__all__ = ["TrainingRun", "earlier_runs", "read_training_run"]

_BREAK = 10
"""A gap of this many times the median is a break or an evaluation."""

_ROW = re.compile(r"\| (?P<name>\S+) \| (?P<steps>[\d,]+) \| (?P<hours>\d+\.\d) \|")


class TrainingRun(BaseModel):
    """A finished or interrupted training.

    Attributes:
        name: Name of its folder.
        steps: Number of steps.
        hours: Hours they took.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    steps: int
    hours: float


def read_training_run(folder: Path) -> TrainingRun:
    """Read the log of a run.

    Args:
        folder: Folder of a run of any training.

    Raises:
        InputError: If it has no log, or one without times.
    """
    lines = [line for line in read_log(folder) if "time" in line]
    if len(lines) < 2:
        raise InputError(f"The log of {str(folder)!r} has {len(lines)} line(s) with a time, and two are needed.")
    between = [max(0.0, after["time"] - before["time"]) for before, after in itertools.pairwise(lines)]
    usual = statistics.median(between)
    counted = [seconds for seconds in between if seconds <= _BREAK * max(usual, 1.0)]
    seconds = sum(counted) + usual  # the time before the first line
    return TrainingRun(name=folder.name, steps=max(line["step"] for line in lines), hours=seconds / 3600)


def earlier_runs(card: Path) -> list[TrainingRun]:
    """Read the trainings of an earlier model from its card.

    Args:
        card: A card that `model_card` has written.

    Raises:
        InputError: If it cannot be read, or lists no trainings.
    """
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(card)!r} cannot be read: {error}. Give the README.md of a model's weights.") from error
    rows = [_ROW.fullmatch(line.strip()) for line in text.splitlines()]
    runs = [
        TrainingRun(name=row["name"], steps=int(row["steps"].replace(",", "")), hours=float(row["hours"]))
        for row in rows
        if row is not None
    ]
    if not runs:
        raise InputError(f"{str(card)!r} lists no trainings. Give a card that mgem eval card has written with --run.")
    return runs
