"""A batch of work: items in, one row for each out, in one process or on many.

A *step* does the work of items and holds the models that they need. The same step runs in this process (`run_here`) or
in the workers of a Ray cluster (`mgem_agent.scale.ray_batch`). Each row is written to the manifest as soon as it comes,
so a batch that was interrupted continues with what is missing. An item that fails is a row with its error, and the
others continue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mgem_agent.errors import InputError
from mgem_agent.scale.batch_manifest import BatchManifest
from mgem_agent.scale.batch_row import BatchItem, BatchRow, failed_row, lost_row, worker_name

__all__ = ["BatchReport", "BatchRunner", "BatchStep", "MakeStep", "run_batch", "run_here", "run_items"]


class BatchStep(Protocol):
    """Does the work of items. It may hold models, and is used by one thread."""

    def run(self, items: Sequence[BatchItem]) -> Iterator[BatchRow]:
        """Yield one row for each item, as they come.

        An item that is run again, because its worker was lost, should cost only what is missing.

        Args:
            items: Items to do together.
        """
        ...


MakeStep = Callable[[], BatchStep]
"""Creates the step in the process that runs it. It is pickled, so it holds settings and no models."""

BatchRunner = Callable[[MakeStep, Sequence[Sequence[BatchItem]]], Iterator[BatchRow]]
"""Runs a step over groups of items, and yields the rows as they come, in any order."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Figures of one run.

    Attributes:
        rows: Rows of all items, in order: those of earlier runs, too.
        num_done_before: Number of items that earlier runs did.
    """

    rows: tuple[BatchRow, ...]
    num_done_before: int

    @property
    def failed(self) -> tuple[BatchRow, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.status == "failed")


def run_batch(
    items: Sequence[BatchItem],
    make_step: MakeStep,
    manifest: BatchManifest,
    *,
    run: BatchRunner | None = None,
    group_size: int = 1,
    begin: Callable[[int], None] = lambda num_done: None,
    report: Callable[[BatchRow], None] = lambda row: None,
) -> BatchReport:
    """Do what is missing of a batch.

    Args:
        items: All items.
        make_step: Creates the step.
        manifest: The open manifest.
        run: What runs the step; `run_here` by default.
        group_size: Maximum number of items that a step gets together.
        begin: Called with the number of items that earlier runs did.
        report: Called with each new row, after it is written.

    Returns:
        The rows of all items.

    Raises:
        InputError: If two items have the same key.
        ToolError: If the manifest cannot be written, or the cluster is lost. What is done is in the manifest.
    """
    keys = [item.key for item in items]
    if twice := next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None:
        raise InputError(f"Two items of the batch have the name {twice!r}. Give each its own name.")
    rows = {item.key: row for item in items if (row := manifest.done(item)) is not None}
    num_done_before = len(rows)
    begin(num_done_before)
    waiting = [item for item in items if item.key not in rows]
    groups = [waiting[start : start + group_size] for start in range(0, len(waiting), group_size)]
    if groups:
        for row in (run or run_here)(make_step, groups):
            _keep(row, rows, manifest, report)
    for item in waiting:
        if item.key not in rows:
            _keep(lost_row(item), rows, manifest, report)
    manifest.finish(keys)
    return BatchReport(tuple(rows[key] for key in keys), num_done_before)


def _keep(
    row: BatchRow, rows: dict[str, BatchRow], manifest: BatchManifest, report: Callable[[BatchRow], None]
) -> None:
    manifest.write(row)
    rows[row.key] = row
    report(row)


def run_here(make_step: MakeStep, groups: Sequence[Sequence[BatchItem]]) -> Iterator[BatchRow]:
    """Run a step in this process, one group after another; arguments as for `BatchRunner`."""
    step = make_step()
    for group in groups:
        yield from step.run(group)


def run_items(
    items: Sequence[BatchItem], work: Callable[[BatchItem], tuple[Sequence[str], dict[str, Any]]]
) -> Iterator[BatchRow]:
    """Do items one after another, and yield a row for each; for a step that does one item at a time.

    Args:
        items: The items.
        work: Does an item, and returns its files and its results. What it raises becomes the error of the row.
    """
    for item in items:
        started = time.monotonic()
        try:
            files, result = work(item)
        except Exception as error:  # an item must not end the batch, whatever it raises
            yield replace(failed_row(item, error), seconds=round(time.monotonic() - started, 3))
        else:
            seconds = round(time.monotonic() - started, 3)
            yield BatchRow(
                item.key, item.fingerprint, files=tuple(files), result=result, seconds=seconds, worker=worker_name()
            )
