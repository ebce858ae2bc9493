"""The micro-batches of each step, loaded ahead by other processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset

from mgem_agent.recipes.train.batch_plan import BatchPlan
from mgem_agent.recipes.train.examples import Batch, Examples

__all__ = ["StepBatches"]


class StepBatches(Dataset[list[Batch]]):
    """The micro-batches of each step for one process, as a data set for a data loader.

    Args:
        examples: The records.
        plan: The records of each step.
        process: Index of the process.
        num_processes: Number of processes.
        micro_batch: Records of a micro-batch.
    """

    def __init__(
        self, examples: Examples, plan: BatchPlan, *, process: int, num_processes: int, micro_batch: int
    ) -> None:
        self._examples = examples
        self._plan = plan
        self._share = (process, num_processes, micro_batch)

    def __getitem__(self, step: int) -> list[Batch]:
        return [self._examples.batch(positions, step) for positions in self._plan.share(step, *self._share)]

    def loader(self, first: int, last: int, num_workers: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each step from `first` up to, not including, `last`.

        Args:
            first: The first step.
            last: The step to stop before.
            num_workers: Processes that load ahead; 0 loads in this one.
        """
        loader = torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=range(first, last),
            num_workers=num_workers,
            # Its own generator, so that a new loader does not advance the random state of the training.
            generator=torch.Generator(),
            persistent_workers=False,
        )
        return iter(loader)
