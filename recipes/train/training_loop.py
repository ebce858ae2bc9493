"""The training loop: steps, log, evaluations and checkpoints.

A step takes the micro-batches of one global batch. `target_loss` divides their losses by the number of targets of the
whole step over all processes. accelerate and distributed training divide again, by the number of micro-batches and of
processes, so the loop multiplies by both.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup

from mgem_agent.errors import MgemError
from mgem_agent.recipes.train.broken_report import BrokenReport
from mgem_agent.recipes.train.checkpoints import Checkpoints
from mgem_agent.recipes.train.config import OptimizerConfig
from mgem_agent.recipes.train.examples import Batch
from mgem_agent.recipes.train.held_out import HeldOut
from mgem_agent.recipes.train.run_log import RunLog
from mgem_agent.recipes.train.stop_signal import StopSignal

__all__ = ["TrainingLoop", "learning_rate_schedule"]

_log = logging.getLogger(__name__)

_MAX_SKIPPED = 3
"""Steps in a row without a finite gradient, at which a run stops."""


def learning_rate_schedule(settings: OptimizerConfig, num_steps: int) -> Callable[[int], float]:
    """Return transformers' cosine schedule with linear warm-up, as a function that needs no saved state.

    Args:
        settings: Its `warmup_ratio` and `final_ratio` are used.
        num_steps: Steps of the whole run.

    Returns:
        Gives the factor on the peak learning rate, from 0 to 1, of a step counted from 0.
    """
    schedule: Any = get_cosine_with_min_lr_schedule_with_warmup(
        torch.optim.SGD([torch.zeros(1)]),  # only its function of the step is used
        math.ceil(num_steps * settings.warmup_ratio),
        num_steps,
        min_lr_rate=settings.final_ratio,
    )
    factor: Callable[[int], float] = schedule.lr_lambdas[0]
    return factor


class TrainingLoop:
    """Runs the steps of a training.

    Args:
        accelerator: Coordinates the processes.
        module: A prepared `TargetLoss`.
        optimizer: Its prepared optimizer, whose groups have a `base_lr`.
        checkpoints: Saves and restores the state.
        folder: The run's folder.
        settings: Settings of the optimizer.
        num_steps: Steps of the whole run.
        log_every: Steps between two lines of the log.
        checkpoint_every: Steps between two checkpoints.
        flops: Operations of one token, and the measured peak of one process in operations a second.
        keep_best: Called when the held-out loss is the lowest so far, in every process; None keeps no best result.

    Attributes:
        step: Number of steps done.
        module: The module given.
        last_loss: Mean loss in the last line of the log.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizer: Any,
        checkpoints: Checkpoints,
        *,
        folder: Path,
        settings: OptimizerConfig,
        num_steps: int,
        log_every: int,
        checkpoint_every: int,
        flops: tuple[float, float],
        keep_best: Callable[[], None] | None = None,
    ) -> None:
        self.step = 0
        self.module = module
        self.last_loss: float | None = None
        self._accelerator = accelerator
        self._optimizer = optimizer
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._checkpoints = checkpoints
        self._folder = folder
        self._settings = settings
        self._num_steps = num_steps
        self._learning_rate_factor = learning_rate_schedule(settings, num_steps)
        self._log_every = log_every
        self._checkpoint_every = checkpoint_every
        self._flops = flops
        self._keep_best = keep_best
        self._best: float | None = None  # the lowest held-out loss
        self._num_skipped = 0  # steps in a row
        # Sums since the last line of the log. Checkpoints hold them, so that a resumed run logs the same values.
        self._since: dict[str, float] = {"loss": 0.0, "steps": 0, "tokens": 0, "seconds": 0.0}

    def restore(self) -> None:
        """Resume from the newest checkpoint of the run, if there is one."""
        progress = self._checkpoints.restore()
        self.step = progress.get("step", 0)
        self.last_loss = progress.get("last_loss")
        self._since = progress.get("since", self._since)
        self._best = progress.get("best")

    def run(
        self,
        batches: Iterator[list[Batch]],
        broken: BrokenReport,
        held_out: HeldOut | None,
        stop: StopSignal,
        say: Any,
    ) -> None:
        """Run the remaining steps, or stop early after a signal.

        Args:
            batches: This process's micro-batches of each remaining step.
            broken: Records the records that were not used.
            held_out: Computes the held-out loss; None for no evaluation.
            stop: Tells whether a signal came.
            say: Called with each progress message.
        """
        log = RunLog(self._folder, self.step) if self._accelerator.is_main_process else None
        saved = self.step
        begin = time.perf_counter()
        for micro_batches in batches:
            for batch in micro_batches:
                broken.add(batch.broken, batch.repaired)
            record = self._make_step(micro_batches)
            now = time.perf_counter()
            self._since["seconds"] += now - begin
            begin = now
            if self.step % self._log_every == 0 or self.step == self._num_steps:
                self._write(log, record, say)
            if held_out is not None and held_out.is_due(self.step, self._num_steps):
                self._evaluate(held_out, log, say)
                begin = time.perf_counter()
            is_stopped = self._is_stopped(stop)
            if is_stopped or self.step % self._checkpoint_every == 0 or self.step == self._num_steps:
                self._save()
                saved = self.step
                begin = time.perf_counter()
            if is_stopped:
                break
        if saved != self.step:
            self._save()

    def _save(self) -> None:
        self._checkpoints.save(self.step, {"since": self._since, "last_loss": self.last_loss, "best": self._best})

    def _evaluate(self, held_out: HeldOut, log: RunLog | None, say: Any) -> None:
        """Log the held-out loss, and keep the result if it is the best so far."""
        loss = held_out.loss(self._accelerator, self.module)
        if log is not None:
            log.write(step=self.step, evaluation_loss=loss)
        self._accelerator.log({"evaluation_loss": loss}, step=self.step)
        is_best = loss < (math.inf if self._best is None else self._best)
        if is_best:
            self._best = loss
        keeps = is_best and self._keep_best is not None
        say(f"step {self.step}: held-out loss {loss:.4f}{', the best so far' if keeps else ''}")
        if keeps and self._keep_best is not None:
            self._keep_best()

    def _make_step(self, micro_batches: list[Batch]) -> dict[str, float]:
        """Run one step and return the values that the log gets."""
        accelerator = self._accelerator
        counts = torch.tensor(
            [sum(batch.num_targets for batch in micro_batches), sum(batch.num_tokens for batch in micro_batches)],
            device=accelerator.device,
        )
        num_targets, num_tokens = self._summed(counts)
        factor = self._learning_rate_factor(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        total = torch.zeros((), device=accelerator.device)
        norm: Any = None
        for batch in micro_batches:
            inputs = {name: value.to(accelerator.device) for name, value in batch.inputs.items()}
            with accelerator.accumulate(self.module):
                loss = self.module(inputs, num_targets)
                if loss.requires_grad:  # false for text-only batches with a frozen language model
                    accelerator.backward(loss * (accelerator.num_processes * accelerator.gradient_accumulation_steps))
                total += loss.detach()
                if accelerator.sync_gradients:
                    norm = self._clip()
                    self._guard(norm)
                if not self._num_skipped:
                    self._optimizer.step()
                self._optimizer.zero_grad()
        self.step += 1
        if not self._num_skipped:
            self._since["loss"] += float(self._summed(total))
            self._since["steps"] += 1
        self._since["tokens"] += int(num_tokens)
        return {
            "learning_rate": self._settings.learning_rate * factor,
            "gradient_norm": math.nan if norm is None else float(norm),
        }

    def _guard(self, norm: Any) -> None:
        """Skip a step whose gradient is not finite; stop after several in a row.

        Raises:
            MgemError: If it is, under DeepSpeed, which has made its step; or for the third time in a row. What is in
                the checkpoints is not affected.
        """
        is_zero = self._accelerator.distributed_type == DistributedType.DEEPSPEED
        if norm is None or math.isfinite(float(norm)):
            self._num_skipped = 0
            return
        self._num_skipped += 1
        _log.warning("Step %d has a gradient of %s and is skipped.", self.step + 1, float(norm))
        if is_zero or self._num_skipped == _MAX_SKIPPED:
            before = "" if is_zero else f", as in the {_MAX_SKIPPED - 1} steps before it"
            raise MgemError(
                f"The gradient of step {self.step + 1} is {float(norm)}{before}. The run stopped, and its last "
                "checkpoint is from before. Start another run with a lower optimizer.learning_rate, a longer warm-up "
                "or run.precision=fp32, or look at the records of this step."
            )

    def _clip(self) -> Any:
        """Clip the gradient and return its norm.

        DeepSpeed has clipped it and made its step in the backward pass; its norm is None if it has not computed it.
        """
        if self._accelerator.distributed_type == DistributedType.DEEPSPEED:
            return self._accelerator.clip_grad_norm_([], math.inf)
        for parameter in self._parameters:
            if parameter.grad is None:  # a text-only step; other processes may have images and wait for this gradient
                parameter.grad = torch.zeros_like(parameter)
        limit = self._settings.max_grad_norm
        return self._accelerator.clip_grad_norm_(self._parameters, math.inf if limit is None else limit)

    def _summed(self, values: Tensor) -> Tensor:
        if self._accelerator.num_processes == 1:
            return values
        summed: Any = self._accelerator.reduce(values, "sum")
        return cast(Tensor, summed)

    def _is_stopped(self, stop: StopSignal) -> bool:
        """Return whether any process got a signal, since all must stop at the same step."""
        if self._accelerator.num_processes == 1:
            return stop.received is not None
        flag = torch.tensor(int(stop.received is not None), device=self._accelerator.device)
        return bool(self._summed(flag))

    def _write(self, log: RunLog | None, record: dict[str, float], say: Any) -> None:
        since = self._since
        self.last_loss = since["loss"] / since["steps"] if since["steps"] else math.nan  # all were skipped
        speed = since["tokens"] / max(since["seconds"], 1e-9)
        of_token, peak = self._flops
        utilisation = speed * of_token / (peak * self._accelerator.num_processes)
        if log is not None:
            line = {
                "step": self.step,
                "loss": self.last_loss,
                **record,
                "tokens_per_s": speed,
                "mfu": utilisation,
                "seconds_per_step": since["seconds"] / max(since["steps"], 1),
                "time": time.time(),
            }
            log.write(**line)
            self._accelerator.log({name: value for name, value in line.items() if name != "step"}, step=self.step)
        left = (self._num_steps - self.step) * since["seconds"] / max(since["steps"], 1)
        say(
            f"step {self.step}/{self._num_steps}: loss {self.last_loss:.4f}, lr {record['learning_rate']:.2e}, "
            f"gradient {record['gradient_norm']:.2f}, {speed:,.0f} tokens/s, "
            f"MFU {utilisation:.1%}, {left / 60:,.0f} min left"
        )
        self._since = {"loss": 0.0, "steps": 0, "tokens": 0, "seconds": 0.0}
