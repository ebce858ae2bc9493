"""Figures of what runs past one process: `mgem bench scale --json`.

Each part is one comparison, and may need a package or a server that is not here: it is then left out, with the reason.
The parts are chosen by the command line, because recipes do not import the rooms that do the work.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, SerializeAsAny
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.errors import MgemError
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, require_positive
from mgem_agent.recipes.bench.progress import report

__all__ = [
    "BatchOfStories",
    "BatchSeconds",
    "BatchTimes",
    "ScaleFigures",
    "TellBatch",
    "bench_scale",
    "bench_story_batch",
]

CPU = torch.device("cpu")


class BatchOfStories(BaseModel):
    """A batch of stories to tell.

    Attributes:
        num_stories: Number of stories.
        num_scenes: Number of pictures of each.
        single_s: Seconds that the generator takes for a picture.
        num_workers: Number of workers.
    """

    model_config = ConfigDict(frozen=True)

    num_stories: int
    num_scenes: int
    single_s: float
    num_workers: int


class BatchSeconds(BaseModel):
    """How long a batch took.

    Attributes:
        start_s: Seconds until the first story was begun: the workers start, and import what they need.
        work_s: Seconds from then on.
    """

    model_config = ConfigDict(frozen=True)

    start_s: float
    work_s: float


TellBatch = Callable[[BatchOfStories, Path], BatchSeconds]
"""Tells a batch in a folder, with its own workers. The command line has it."""


class BatchTimes(Comparison):
    """Two workers against one, from the first story that is begun; and the start before it.

    Attributes:
        start_s: Seconds of the start, in each run of two workers.
        alternative_start_s: The same of one worker.
    """

    start_s: tuple[float, ...]
    alternative_start_s: tuple[float, ...]

    def tables(self) -> list[Table]:
        """Return the times, with a row for the start."""
        (table,) = super().tables()
        starts = (statistics.median(seconds) for seconds in (self.start_s, self.alternative_start_s))
        table.add_row("start before it, median", *map(format_seconds, starts), "")
        return [table]


class ScaleFigures(BaseModel):
    """The parts that were measured.

    Attributes:
        figures: The comparisons, by name of the part.
        skipped: Why parts were left out, by name.
    """

    model_config = ConfigDict(frozen=True)

    figures: dict[str, SerializeAsAny[Comparison]]
    skipped: dict[str, str] = {}

    def render(self) -> RenderableType:
        """Return the tables of all parts for the terminal."""
        left_out = [Text(f"{name}: not measured. {reason}") for name, reason in self.skipped.items()]
        return Group(*(each.render() for each in self.figures.values()), *left_out)


def bench_scale(parts: Mapping[str, Callable[[], Comparison]]) -> ScaleFigures:
    """Measure parts, one after another.

    Args:
        parts: The measurement of each part, by its name.

    Raises:
        MgemError: If no part can be measured here.
    """
    figures: dict[str, Comparison] = {}
    skipped: dict[str, str] = {}
    for name, measure in parts.items():
        try:
            figures[name] = found = measure()
        except MgemError as error:  # such as a missing package; the others can be measured
            skipped[name] = str(error)
        else:
            told = f"{found.ours_run.label} {format_seconds(found.ours)}, {found.alternative_run.label} "
            report(name, result=f"{told}{format_seconds(found.alternative)}: {format_times(found.ratio)}")
    if not figures:
        raise MgemError(f"No part of this benchmark can be measured here. The first: {next(iter(skipped.values()))}")
    return ScaleFigures(figures=figures, skipped=skipped)


def bench_story_batch(
    tell: TellBatch, *, num_stories: int = 12, num_scenes: int = 4, single_s: float = 0.5, repeats: int = 1
) -> BatchTimes:
    """Compare a batch of stories on two workers with the same on one. A factor of 2 is possible.

    Args:
        tell: Tells a batch; the cluster is running already.
        num_stories: Number of stories.
        num_scenes: Number of pictures of each.
        single_s: Seconds that the generator takes for a picture, one at a time.
        repeats: Number of timed runs of each side.

    Raises:
        InputError: If a number is not positive.
    """
    require_positive(repeats=repeats, num_stories=num_stories, num_scenes=num_scenes)
    found: dict[int, list[BatchSeconds]] = {2: [], 1: []}
    runs = [workers for repeat in range(repeats) for workers in ((2, 1) if repeat % 2 == 0 else (1, 2))]
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", ignore_cleanup_errors=True) as folder:
        for number, workers in enumerate(runs):
            report(f"batch of stories, {workers} worker(s)", number, len(runs))
            plan = BatchOfStories(
                num_stories=num_stories, num_scenes=num_scenes, single_s=single_s, num_workers=workers
            )
            found[workers].append(tell(plan, Path(folder, str(number))))
    two, one = found[2], found[1]
    return BatchTimes(
        name="batch",
        setting=f"{num_stories} stories of {num_scenes} pictures on Ray; {single_s:g} s a picture, scripted",
        note="Timed from the first story that is begun; the cluster is started before.",
        ours_run=Run(label="two workers", seconds=tuple(each.work_s for each in two)),
        alternative_run=Run(label="one worker", seconds=tuple(each.work_s for each in one)),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(CPU),
        start_s=tuple(each.start_s for each in two),
        alternative_start_s=tuple(each.start_s for each in one),
    )
