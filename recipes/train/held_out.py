"""The loss on held-out records: per target token, as in training, without dropout and random numbers."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

from mgem_agent.recipes.train.examples import Examples

__all__ = ["HeldOut"]


class HeldOut:
    """Evaluates on records that are not in the training data.

    Args:
        examples: The records.
        every: Steps between evaluations.
        max_records: Maximum number of records, evenly spread; None for all.
        micro_batch: Records of a batch.
        process: Index of the process.
        num_processes: Number of processes, each of which evaluates its share.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        every: int,
        max_records: int | None,
        micro_batch: int,
        process: int,
        num_processes: int,
    ) -> None:
        self._examples = examples
        self._every = every
        count = min(len(examples), max_records or len(examples))
        lengths, _, _ = examples.sizes()
        chosen = [index * len(examples) // count for index in range(count)]
        chosen.sort(key=lambda position: -int(lengths[position]))
        rows = [chosen[start : start + micro_batch] for start in range(0, count, micro_batch)]
        own = [(row, True) for row in rows[process::num_processes]]
        # Sharded weights need all processes to run the model equally often; padding batches are not counted.
        missing = -(-len(rows) // num_processes) - len(own)
        self._rows = own + [(rows[0], False)] * missing

    @property
    def num_batches(self) -> int:
        """Number of batches of an evaluation, the same for every process."""
        return len(self._rows)

    def is_due(self, step: int, num_steps: int) -> bool:
        """Return whether to evaluate after a step.

        Args:
            step: Number of steps done.
            num_steps: Steps of the whole run.
        """
        return step % self._every == 0 or step == num_steps

    def loss(self, accelerator: Accelerator, module: nn.Module) -> float:
        """Return the mean cross-entropy of a target token over all processes.

        Args:
            accelerator: Coordinates the processes.
            module: A prepared `TargetLoss`; it is in training mode afterwards.
        """
        model = accelerator.unwrap_model(module)
        model.eval()
        total = torch.zeros(2, dtype=torch.float64)
        one = torch.ones((), device=accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            for positions, counts in self._rows:
                batch = self._examples.batch(positions)
                inputs = {name: value.to(accelerator.device) for name, value in batch.inputs.items()}
                loss = float(model(inputs, one))
                if counts:
                    total += torch.tensor([loss, batch.num_targets], dtype=torch.float64)
        module.train()
        summed = total.to(accelerator.device)
        if accelerator.num_processes > 1:
            summed = accelerator.reduce(summed, "sum")
        return float(summed[0] / summed[1])
