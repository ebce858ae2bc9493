"""The paper's benchmarks and published values, read from the files of this folder."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from mgem_agent.core_model.checkpoints import find_released
from mgem_agent.errors import CheckpointError, InputError

__all__ = ["Ablation", "PaperBenchmark", "ablations", "find_benchmarks", "paper_benchmarks", "published_values"]


class PaperBenchmark(BaseModel):
    """A benchmark of the paper as a task of lmms-eval.

    Attributes:
        name: Name in the paper.
        table: The paper's table.
        task: lmms-eval's task.
        file: The task's file, in lmms-eval's folder of tasks.
        metrics: lmms-eval's results, one or two.
        scale: Factor from lmms-eval's results to the paper's.
        digits: Decimal places.
        judge: Whether a language model over an API scores the answers.
        changes: Fields of the task that differ, as in the authors' scripts.
        note: A difference from the authors' evaluation that remains.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    table: Literal[1, 6]
    task: str
    file: str
    metrics: tuple[str, ...]
    scale: float
    digits: int = 1
    judge: bool = False
    changes: dict[str, Any] = {}
    note: str = ""

    @property
    def our_task(self) -> str:
        """Name of the task with our changes."""
        return f"mgem_{self.task}" if self.changes else self.task


class Ablation(BaseModel):
    """A row of the paper's ablations.

    Attributes:
        id: Short name.
        table: The paper's table.
        label: The row's name in the paper.
        low_res: Side of the low-resolution image in pixels.
        high_res: Side of the high-resolution image; None for a baseline without high resolution.
        tokens: Visual tokens of an image.
        published: The paper's values.
        train: The shipped training configurations of both stages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    table: Literal[2, 3]
    label: str
    low_res: int
    high_res: int | None = None
    tokens: int
    published: dict[str, float]
    train: tuple[str, str]


@functools.cache
def paper_benchmarks() -> tuple[PaperBenchmark, ...]:
    """Return the benchmarks of Tables 1 and 6, in their order."""
    return TypeAdapter(tuple[PaperBenchmark, ...]).validate_python(_read("benchmarks.yaml"))


@functools.cache
def ablations() -> tuple[Ablation, ...]:
    """Return the rows of Tables 2 and 3, in their order."""
    return TypeAdapter(tuple[Ablation, ...]).validate_python(_read("ablations.yaml"))


def find_benchmarks(names: tuple[str, ...] = ()) -> tuple[PaperBenchmark, ...]:
    """Return benchmarks by the paper's names or lmms-eval's; case is ignored. Without names, all.

    Raises:
        InputError: If there is no such benchmark.
    """
    known = {key.lower(): each for each in paper_benchmarks() for key in (each.name, each.task)}
    for name in names:
        if name.lower() not in known:
            allowed = ", ".join(each.name for each in paper_benchmarks())
            raise InputError(f"There is no benchmark {name!r} in the paper. Allowed: {allowed}.")
    chosen = {known[name.lower()].name for name in names}
    return tuple(each for each in paper_benchmarks() if not names or each.name in chosen)


def published_values(model: str) -> dict[str, str]:
    """Return the published values of a model by benchmark; empty if the paper does not have it.

    Args:
        model: A released model's name or hub id, such as `YanweiLi/MGM-7B`, or the folder of a copy with that name.
    """
    try:
        name = find_released(model.rstrip("/").rpartition("/")[2]).name
    except CheckpointError:
        return {}
    rows: dict[str, dict[str, Any]] = _read("published.yaml")
    return {benchmark: str(value) for benchmark, value in rows.get(name, {}).items()}


def _read(name: str) -> Any:
    text = (importlib.resources.files("mgem_agent.recipes.eval.paper") / name).read_text(encoding="utf-8")
    return yaml.safe_load(text)
