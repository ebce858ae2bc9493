"""How long a training took, by its own log: the time between its lines, breaks left out."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.run_log import read_log

__all__ = ["TrainingRun", "read_training_run"]

_BREAK = 10
"""So many times the usual time between two lines is a break, or an evaluation."""


class TrainingRun(BaseModel):
    """A finished or interrupted training.

    Attributes:
        name: Name of its folder.
        steps: Steps made.
        hours: What they took.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    steps: int
    hours: float


def read_training_run(folder: Path) -> TrainingRun:
    """Read the log of a run.

    Args:
        folder: Of any recipe of this package.

    Raises:
        InputError: If it has no log, or one without times.
    """
    lines = [line for line in read_log(folder) if "time" in line]
    if len(lines) < 2:
        raise InputError(f"The log of {str(folder)!r} has {len(lines)} line(s) with a time, and two are needed.")
    between = [max(0.0, after["time"] - before["time"]) for before, after in itertools.pairwise(lines)]
    usual = statistics.median(between)
    counted = [seconds for seconds in between if seconds <= _BREAK * max(usual, 1.0)]
    seconds = sum(counted) + usual  # before the first line
    return TrainingRun(name=folder.name, steps=max(line["step"] for line in lines), hours=seconds / 3600)
