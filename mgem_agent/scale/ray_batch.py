"""Run the step of a batch with Ray Data: stateful workers hold the models, and rows stream back as they are done.

- **A group of items is a block**, so a lost worker costs only the group that it was doing. Ray starts another worker,
  which does that group again, item by item; steps find what is already done.
- **An item that ends its worker several times is given up**; see `StartMarks`.
- Items and rows are JSON. Pictures and books are files, in folders that all workers must see.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import ToolError
from mgem_agent.scale.batch import BatchStep, MakeStep
from mgem_agent.scale.batch_row import BatchItem, BatchRow, failed_row, lost_row
from mgem_agent.scale.ray_cluster import RayOptions, connected
from mgem_agent.scale.start_marks import StartMarks

__all__ = ["BatchWorker", "RayRunner"]

MAX_STARTS = 3
"""How many workers an item may end."""
_MAX_BLOCKS = 10_000
"""Blocks that Ray keeps track of; a larger batch has several groups in each."""


@dataclass(frozen=True)
class RayRunner:
    """Runs groups of items on Ray; a `BatchRunner`.

    Attributes:
        options: Where and how.
        folder: Folder for the marks of what was started; all workers must see it.
    """

    options: RayOptions
    folder: Path

    def __call__(self, make_step: MakeStep, groups: Sequence[Sequence[BatchItem]]) -> Iterator[BatchRow]:
        """Run a step, and yield the rows as they come.

        Args:
            make_step: Creates the step in each worker.
            groups: The groups of items.

        Raises:
            MissingDependencyError: If the extra `ray` is not installed.
            ToolError: If the cluster cannot be reached, or is lost.
        """
        marks = StartMarks(self.folder)
        marks.clear()
        with connected(self.options) as ray:
            try:
                for fields in _rows(ray, make_step, marks, groups, self.options):
                    yield BatchRow.from_json(json.loads(fields["row"]))
            except ray.exceptions.RayError as error:
                raise ToolError(
                    f"The batch on Ray ended early ({type(error).__name__}: {error}). What is done is kept; run the "
                    "command again to continue it.",
                    retryable=True,
                ) from error
            finally:
                marks.clear()


def _rows(
    ray: Any, make_step: MakeStep, marks: StartMarks, groups: Sequence[Sequence[BatchItem]], options: RayOptions
) -> Iterator[dict[str, Any]]:
    """Do the work, and yield its rows."""
    from ray import data  # pyright: ignore[reportMissingImports]

    context = data.DataContext.get_current()
    context.max_errored_blocks = -1  # a group that Ray gives up must not end the others
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # each row has its own error
    blocks = [{"group": json.dumps([asdict(item) for item in group])} for group in groups]
    rows = ray.data.from_items(blocks, override_num_blocks=min(len(blocks), _MAX_BLOCKS)).map_batches(
        BatchWorker,
        fn_constructor_args=(make_step, marks),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(options.num_workers, len(blocks)),
            max_tasks_in_flight_per_actor=1,  # what waits at a worker could be done by another
        ),
        **options.of_a_worker,
    )
    yield from rows.iter_rows()


class BatchWorker:
    """What an actor of Ray Data runs: a step, which is created at the first group.

    Args:
        make_step: Creates the step.
        marks: Counts what was started.
    """

    def __init__(self, make_step: MakeStep, marks: StartMarks) -> None:
        self._make_step = make_step
        self._marks = marks
        self._step: BatchStep | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Do groups of items.

        Args:
            batch: Groups as JSON, in the column `group`.

        Returns:
            Rows as JSON, in the column `row`.
        """
        items = [BatchItem(**fields) for group in batch["group"] for fields in json.loads(str(group))]
        is_again = any(self._marks.num_starts(item) for item in items)
        groups = [[item] for item in items] if is_again else [items]
        return {"row": [json.dumps(row.to_json()) for group in groups for row in self._done(group)]}

    def _done(self, items: Sequence[BatchItem]) -> Iterator[BatchRow]:
        """Do a group, unless its item has ended too many workers."""
        if len(items) == 1 and self._marks.num_starts(items[0]) >= MAX_STARTS:
            yield lost_row(items[0])
            return
        try:
            for item in items:
                self._marks.start(item)
            if self._step is None:
                self._step = self._make_step()
            rows = list(self._step.run(items))
        except Exception as error:  # such as a package that is missing on this machine
            rows = [failed_row(item, error) for item in items]
        for item in items:
            self._marks.end(item)
        yield from rows
