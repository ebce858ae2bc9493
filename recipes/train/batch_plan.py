"""The records of each step: a pure function of the seed and the epoch, so that a run can resume at any step.

All processes compute the same plan and take their own share. The records of a step are similar in kind (with or without
images) and length, like the authors' `group_by_modality_length`: records are shuffled, and sorted by length within
chunks of several steps. Within a step, records are sorted by length and distributed so that all processes have
micro-batches of similar length at the same time. Then the steps are shuffled.

The last step of an epoch is filled with records from the start of the epoch, so that every step has the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

__all__ = ["BatchPlan"]

_STEPS_PER_CHUNK = 50
"""Steps in a chunk that is sorted by length: more means less padding, fewer means more randomness."""


class BatchPlan:
    """The records of every step.

    Args:
        lengths: Approximate number of tokens of each record.
        num_images: Number of pictures of each record.
        files: Index of the file of each record.
        repeats: Passes over each file in an epoch.
        global_batch: Records of a step.
        seed: Seed of the order.
        group_by_length: Whether to group records of similar kind and length.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        num_images: Sequence[int] | np.ndarray,
        files: Sequence[int] | np.ndarray,
        repeats: Sequence[float],
        *,
        global_batch: int,
        seed: int,
        group_by_length: bool = True,
    ) -> None:
        self._lengths = np.asarray(lengths)
        self._has_images = np.asarray(num_images) > 0
        self._own = [np.flatnonzero(np.asarray(files) == file).astype(np.int32) for file in range(len(repeats))]
        self._repeats = tuple(repeats)
        self._global_batch = global_batch
        self._seed = seed
        self._group_by_length = group_by_length
        self._epoch = lru_cache(maxsize=2)(self._plan)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        total = sum(self._share(file, repeat)[1] for file, repeat in enumerate(self._repeats))
        return max(1, -(-total // self._global_batch))

    def _share(self, file: int, repeat: float) -> tuple[int, int]:
        """Return the number of full passes over a file in an epoch, and the number of its records in an epoch."""
        count = len(self._own[file])
        return int(repeat), max(1, round(count * repeat))

    def step(self, number: int) -> list[int]:
        """Return the records of a step, longest first.

        Args:
            number: The step, counted from 0 over all epochs.
        """
        epoch, place = divmod(number, self.steps_per_epoch)
        records: list[int] = self._epoch(epoch)[place].tolist()
        return records

    def share(self, number: int, process: int, num_processes: int, micro_batch: int) -> list[list[int]]:
        """Return the micro-batches of one process in a step.

        Args:
            number: The step, counted from 0 over all epochs.
            process: Index of the process.
            num_processes: Number of processes.
            micro_batch: Records of a micro-batch.
        """
        records = self.step(number)
        slices = [records[start : start + micro_batch] for start in range(0, len(records), micro_batch)]
        return slices[process::num_processes]

    def _plan(self, epoch: int) -> np.ndarray:
        """Return the records of an epoch, one row a step."""
        random = np.random.default_rng([self._seed, epoch])
        chosen = []
        for file, repeat in enumerate(self._repeats):
            own = self._own[file]
            whole, wanted = self._share(file, repeat)
            rest = random.permutation(own)[: wanted - whole * len(own)]
            chosen.append(np.concatenate([np.tile(own, whole), rest]))
        records = random.permutation(np.concatenate(chosen))
        size = self.steps_per_epoch * self._global_batch
        records = np.resize(records, size)  # repeats from the start
        if not self._group_by_length:
            return self._sorted_rows(records.reshape(-1, self._global_batch))
        kinds = [records[self._has_images[records]], records[~self._has_images[records]]]
        full, rests = [], []
        for kind in kinds:
            kept = len(kind) // self._global_batch * self._global_batch
            full.append(self._grouped(kind[:kept]))
            rests.append(kind[kept:])
        mixed = np.concatenate(rests).reshape(-1, self._global_batch)
        return self._sorted_rows(random.permutation(np.concatenate([*full, mixed])))

    def _grouped(self, records: np.ndarray) -> np.ndarray:
        """Return rows of records of similar length."""
        chunk = self._global_batch * _STEPS_PER_CHUNK
        pieces = [records[start : start + chunk] for start in range(0, len(records), chunk)]
        rows = [piece[np.argsort(-self._lengths[piece], kind="stable")] for piece in pieces]
        return np.concatenate([*rows, records[:0]]).reshape(-1, self._global_batch)

    def _sorted_rows(self, rows: np.ndarray) -> np.ndarray:
        order = np.argsort(-self._lengths[rows], axis=1, kind="stable")
        return np.take_along_axis(rows, order, axis=1)
