"""The training loop of nano's recipes, which train small models from random weights.

The data of a step depends only on the seed and the number of the step, so no state of the data is saved, and a run that
was interrupted ends with the same weights as one that was not. accelerate saves weights, optimizer, schedule and
averaged weights. The log, the stop signal and the checkpoints are those of every training (`mgem_agent.recipes.train`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from mgem_agent.errors import CheckpointError
from mgem_agent.recipes.nano.drawing.orthogonal_optimizer import OrthogonalOptimizer
from mgem_agent.recipes.train.checkpoints import Checkpoints, newest_checkpoint
from mgem_agent.recipes.train.run_log import RunLog
from mgem_agent.recipes.train.stop_signal import StopSignal

__all__ = ["Count", "Decay", "PretrainingConfig", "PretrainingRun", "Rate"]

Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
"""Limits of settings whose default a recipe changes: a plain `int` or `float` there would drop them."""

_FREE = frozenset({"save_every_s", "log_every"})
"""Settings that may change when a run resumes."""


class PretrainingConfig(BaseModel):
    """Settings of every recipe of nano.

    Attributes:
        num_steps: Number of optimizer steps; the learning rate falls to zero at the last.
        batch_size: Samples a step.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of the linear warm-up.
        weight_decay: AdamW's weight decay, on matrices and kernels only.
        max_grad_norm: Maximum norm of the gradient.
        ema_decay: Decay of the averaged weights, which are exported; 0 turns averaging off.
        seed: Seed of the initial weights and of all samples.
        save_every_s: Seconds between checkpoints.
        log_every: Steps between lines of the log.
        start_from: Folder of another run of the same model; training starts from its last weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_steps: Count
    batch_size: Count
    learning_rate: Rate
    warmup_steps: int = Field(default=200, ge=0)
    weight_decay: Decay = 0.01
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: Decay = 0.0
    seed: int = Field(default=0, ge=0)
    save_every_s: float = Field(default=300, gt=0)
    log_every: int = Field(default=20, ge=1)
    start_from: str | None = None


class PretrainingRun:
    """A training in its own folder, which resumes where it was interrupted.

    Args:
        folder: Folder of its checkpoint and its log; created if missing.
        model: The model to train.
        config: Settings.
        factors: Factors on the learning rate of some parameters; 1 for all others.
        orthogonal: Parameters that Muon trains; AdamW trains all others.

    Raises:
        CheckpointError: If the folder holds a checkpoint of another model or of other settings.

    Examples:
        >>> for step in run.steps():  # doctest: +SKIP
        ...     run.update(loss_of(model, batch_of(step)))
    """

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        config: PretrainingConfig,
        factors: Mapping[nn.Parameter, float] | None = None,
        orthogonal: Collection[nn.Parameter] = (),
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.model = model
        if config.start_from is not None:
            _load_weights(model, Path(config.start_from))
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        torch.set_flush_denormal(True)  # Adam's averages of rarely used weights become denormal, which is slow
        groups = _groups(model, config, factors or {}, orthogonal)
        optimizer: torch.optim.Optimizer
        if orthogonal:
            optimizer = OrthogonalOptimizer(groups)
        else:
            optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.num_steps)
        self._model, self._optimizer, self._schedule = self._accelerator.prepare(model, optimizer, schedule)
        self.ema = EMAModel(model.parameters(), decay=config.ema_decay, foreach=True) if config.ema_decay else None
        if self.ema is not None:
            self._accelerator.register_for_checkpointing(self.ema)
        self._checkpoints = Checkpoints(self.folder, self._accelerator, keep=1)
        _check_same_settings(self.folder, config, self._checkpoints.progress())
        self.step = int(self._checkpoints.restore().get("step", 0))
        self._log = RunLog(self.folder, self.step)
        self._figures: dict[str, list[float]] = {}
        self._since: tuple[float, int] = (time.monotonic(), self.step)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self._accelerator.device

    def generator(self, step: int, stream: int = 0) -> torch.Generator:
        """Return the random generator of a step; each `stream` is independent."""
        return torch.Generator().manual_seed((self.config.seed * 1_000_003 + step) * 16 + stream)

    def steps(self) -> Iterator[int]:
        """Yield the number of each remaining step; save regularly, at the end, and on SIGINT and SIGTERM."""
        saved = time.monotonic()
        self._since = (saved, self.step)
        with StopSignal() as stop:
            while self.step < self.config.num_steps and stop.received is None:
                yield self.step
                if time.monotonic() - saved > self.config.save_every_s:
                    self.save()
                    saved = time.monotonic()
            self.save()

    def update(self, loss: Tensor, **figures: float) -> None:
        """Run one optimizer step on a loss, and log it.

        Args:
            loss: () the mean over the batch.
            **figures: Other values to log, averaged like the loss.

        Raises:
            CheckpointError: If the loss is not finite; the last checkpoint is kept.
        """
        if not torch.isfinite(loss):
            raise CheckpointError(
                f"The loss of step {self.step} is {loss.item()}. The last checkpoint in {str(self.folder)!r} is kept: "
                f"start a new run from it (start_from) with a lower learning_rate (now {self.config.learning_rate})."
            )
        self._accelerator.backward(loss)
        norm: Any = self._accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        if self.ema is not None:
            self.ema.step(self.model.parameters())
        self.step += 1
        self._count({"loss": loss.item(), "gradient_norm": float(norm), **figures})

    def forget_averages(self) -> None:
        """Restart the averaged weights from the current ones, as after these were set by hand."""
        if self.ema is not None:
            self.ema.shadow_params = [parameter.detach().clone() for parameter in self.model.parameters()]

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Use the averaged weights, if there are any, inside a `with` block."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.model.parameters())

    def save(self) -> None:
        """Write a checkpoint, which replaces the last one when it is complete."""
        self._checkpoints.save(self.step, {"config": self.config.model_dump(mode="json")})

    def _count(self, figures: dict[str, float]) -> None:
        """Add the values of a step; every `log_every` steps, log the speed and the mean of each value.

        A value that a step does not give does not change the mean.
        """
        for name, value in figures.items():
            self._figures.setdefault(name, []).append(value)
        if self.step % self.config.log_every:
            return
        now, (since, first) = time.monotonic(), self._since
        num_steps = max(self.step - first, 1)
        means = {name: round(sum(values) / len(values), 5) for name, values in self._figures.items()}
        self._log.write(
            step=self.step,
            learning_rate=self._schedule.get_last_lr()[0],
            **means,
            samples_per_s=round(num_steps * self.config.batch_size / (now - since), 2),
            time=round(time.time()),
        )
        self._figures, self._since = {}, (now, self.step)


def _check_same_settings(folder: Path, config: PretrainingConfig, progress: Mapping[str, Any]) -> None:
    """Refuse to resume a run that was started with other settings."""
    if not progress:
        return
    before, now = progress["config"], config.model_dump(mode="json")
    changed = sorted(k for k in now.keys() | before.keys() if k not in _FREE and now.get(k) != before.get(k))
    if changed:
        words = ", ".join(f"{k}: {before.get(k)!r} before, {now.get(k)!r} now" for k in changed)
        raise CheckpointError(
            f"The run in {str(folder)!r} was started with other settings ({words}). Give the same settings to resume "
            "it, or another folder."
        )


def _load_weights(model: nn.Module, folder: Path) -> None:
    """Load the last weights of another run into a model."""
    checkpoint = newest_checkpoint(folder) or folder
    try:
        load_model(model, checkpoint / "model.safetensors", device="cpu")
    except (RuntimeError, OSError, SafetensorError) as error:
        raise CheckpointError(
            f"start_from is {str(folder)!r}, which holds no weights of this model: {error}. Name the folder of a run "
            "of the same sizes, or leave it out."
        ) from error


def _groups(
    model: nn.Module,
    config: PretrainingConfig,
    factors: Mapping[nn.Parameter, float],
    orthogonal: Collection[nn.Parameter],
) -> list[dict[str, Any]]:
    """Return parameter groups: matrices and kernels with weight decay, the others without, by learning rate."""
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {(True, 1.0, False): [], (False, 1.0, False): []}
    chosen = set(orthogonal)
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (parameter.ndim >= 2, factors.get(parameter, 1.0), parameter in chosen)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": factor * config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
            **({"is_orthogonal": True} if is_orthogonal else {}),
        }
        for (decays, factor, is_orthogonal), parameters in groups.items()
        if parameters or not orthogonal
    ]
