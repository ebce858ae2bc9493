"""The loop of the recipes that train a small model from nothing: its checkpoints, its schedule and its log.

What a step learns from is a function of the step's number alone, so that nothing about the data has to be saved, and a
run that was cut off goes on as if it had not been. accelerate saves the rest: weights, optimizer, schedule, averaged
weights. A checkpoint is written beside the last one and takes its place only when it is whole.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from mgem_agent.errors import CheckpointError, InputError

__all__ = ["PretrainingConfig", "PretrainingRun", "run_recipe"]

Config = TypeVar("Config", bound="PretrainingConfig")

_LAST = "checkpoint"
_LOG = "log.jsonl"


class PretrainingConfig(BaseModel):
    """What every recipe of this kind is told.

    Attributes:
        num_steps: Optimizer steps in all; the learning rate falls to zero at the last.
        batch_size: Samples a step.
        learning_rate: Highest learning rate.
        warmup_steps: Steps over which it rises from zero.
        weight_decay: Of AdamW, on matrices and kernels alone.
        max_grad_norm: The gradient is cut to this length.
        ema_decay: Of the averaged weights that are exported; 0 for none.
        seed: Of the first weights and of all samples.
        save_every_s: Seconds between checkpoints.
        log_every: Steps between lines of the log.
        start_from: Folder of another run of the same model whose last weights this one begins with, to train longer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    save_every_s: float = Field(default=300, gt=0)
    log_every: int = Field(default=20, ge=1)
    start_from: str | None = None


def run_recipe(arguments: Sequence[str], config_type: type[Config], train: Callable[[str, Config], Path]) -> None:
    """Run a recipe from the command line, and print where its result is.

    Args:
        arguments: The folder of the run, and words `key=value`.
        config_type: What the words are fields of.
        train: The recipe.

    Raises:
        InputError: If there is no folder, or a word is no field or no value of it.
    """
    folder, *words = arguments or [""]
    if not folder or not all("=" in word for word in words):
        raise InputError(f"Give the folder of the run, then key=value words; got {' '.join(arguments)!r}.")
    try:
        config = config_type.model_validate_strings(dict(word.split("=", 1) for word in words))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        known = ", ".join(config_type.model_fields)
        raise InputError(f"The recipe cannot be run so: {wrong}. Its settings are {known}.") from error
    print(train(folder, config))


class PretrainingRun:
    """A training in a folder of its own, which goes on where it stopped.

    Args:
        folder: Where its checkpoint and its log stand; made if it is not there.
        model: What is trained.
        config: How.
        factors: Of the learning rate of some parameters; 1 for all others.

    Raises:
        CheckpointError: If the folder holds a checkpoint of another model or of another configuration.

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
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.model = model
        self.step = 0
        if config.start_from is not None:
            _load_weights(model, Path(config.start_from))
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        torch.set_flush_denormal(True)  # Adam's averages of what is rarely used end there, and are slow
        groups = _groups(model, config, factors or {})
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.num_steps)
        self._model, self._optimizer, self._schedule = self._accelerator.prepare(model, optimizer, schedule)
        self.ema = EMAModel(model.parameters(), decay=config.ema_decay, foreach=True) if config.ema_decay else None
        if self.ema is not None:
            self._accelerator.register_for_checkpointing(self.ema)
        self._stop = threading.Event()
        self._figures: dict[str, float] = {}
        self._since: tuple[float, int] = (time.monotonic(), 0)
        self._resume()

    @property
    def device(self) -> torch.device:
        """Where the model stands."""
        return self._accelerator.device

    def generator(self, step: int, stream: int = 0) -> torch.Generator:
        """Return the source of chance of one step; each `stream` of it is another."""
        return torch.Generator().manual_seed((self.config.seed * 1_000_003 + step) * 16 + stream)

    def steps(self) -> Iterator[int]:
        """Yield the number of each step that is left, saving on the way, at the end, and on SIGINT and SIGTERM."""
        saved = time.monotonic()
        self._since = (saved, self.step)
        with self._asked_to_stop():
            while self.step < self.config.num_steps and not self._stop.is_set():
                yield self.step
                if time.monotonic() - saved > self.config.save_every_s:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def update(self, loss: Tensor, **figures: float) -> None:
        """Take one step down the gradient of a loss, and log it.

        Args:
            loss: () the mean over the batch.
            **figures: What else to log, averaged like the loss.

        Raises:
            CheckpointError: If the loss is not finite; the last checkpoint stands.
        """
        if not torch.isfinite(loss):
            raise CheckpointError(
                f"The loss of step {self.step} is {loss.item()}. The last checkpoint in {str(self.folder)!r} stands: "
                f"go on from it with a lower learning_rate (now {self.config.learning_rate})."
            )
        self._accelerator.backward(loss)
        norm: Any = self._accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        if self.ema is not None:
            self.ema.step(self.model.parameters())
        self.step += 1
        self._log({"loss": loss.item(), "grad_norm": float(norm), **figures})

    def forget_averages(self) -> None:
        """Let the averaged weights begin anew from what the weights are, as after they were set by hand."""
        if self.ema is not None:
            self.ema.shadow_params = [parameter.detach().clone() for parameter in self.model.parameters()]

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Put the averaged weights into the model while the block runs, if there are any."""
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
        """Write a checkpoint, which takes the place of the last one when it is whole."""
        beside, last, before = (self.folder / name for name in (f".{_LAST}.new", _LAST, f".{_LAST}.old"))
        shutil.rmtree(beside, ignore_errors=True)
        self._accelerator.save_state(str(beside))
        (beside / "run.json").write_text(
            json.dumps({"step": self.step, "config": self.config.model_dump(mode="json")}, indent=1), encoding="utf-8"
        )
        shutil.rmtree(before, ignore_errors=True)
        if last.exists():
            last.rename(before)
        beside.rename(last)
        shutil.rmtree(before, ignore_errors=True)

    def _resume(self) -> None:
        """Take up the checkpoint of the folder; between two renames, it is the one before."""
        found = [self.folder / name for name in (_LAST, f".{_LAST}.old") if (self.folder / name / "run.json").is_file()]
        if not found:
            return
        saved = json.loads((found[0] / "run.json").read_text(encoding="utf-8"))
        free = {"save_every_s", "log_every"}
        ours = self.config.model_dump(mode="json")
        changed = sorted(
            k for k in ours.keys() | saved["config"].keys() if k not in free and ours.get(k) != saved["config"].get(k)
        )
        if changed:
            words = ", ".join(f"{k}: {saved['config'].get(k)!r} there, {ours.get(k)!r} here" for k in changed)
            raise CheckpointError(
                f"The run in {str(self.folder)!r} was begun with another configuration ({words}). Give it the same, or "
                f"take another folder."
            )
        try:
            self._accelerator.load_state(str(found[0]))
        except (RuntimeError, OSError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint in {str(found[0])!r} does not fit this model: {error}. Take another folder."
            ) from error
        self.step = int(saved["step"])

    def _log(self, figures: dict[str, float]) -> None:
        """Add a step's figures, and write their mean and the speed now and then."""
        for name, value in figures.items():
            self._figures[name] = self._figures.get(name, 0.0) + value
        if self.step % self.config.log_every:
            return
        now, (since, first) = time.monotonic(), self._since
        num_steps = max(self.step - first, 1)
        line: dict[str, Any] = {"step": self.step, "lr": self._schedule.get_last_lr()[0]}
        line |= {name: round(value / num_steps, 5) for name, value in self._figures.items()}
        line |= {
            "samples_per_s": round(num_steps * self.config.batch_size / (now - since), 2),
            "time": round(time.time()),
        }
        self._figures, self._since = {}, (now, self.step)
        with (self.folder / _LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    @contextmanager
    def _asked_to_stop(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the run after the step that is being taken."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stop.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _load_weights(model: nn.Module, folder: Path) -> None:
    """Give a model the last weights of another run."""
    try:
        load_model(model, folder / _LAST / "model.safetensors", device="cpu")
    except (RuntimeError, OSError, SafetensorError) as error:
        raise CheckpointError(
            f"start_from is {str(folder)!r}, which holds no weights of this model: {error}. Name the folder of a run "
            "of the same sizes, or leave it out."
        ) from error


def _groups(model: nn.Module, config: PretrainingConfig, factors: Mapping[nn.Parameter, float]) -> list[dict[str, Any]]:
    """Return the parameters that decay, matrices and kernels, and those that do not, by their learning rates."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter.ndim >= 2, factors.get(parameter, 1.0)), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": factor * config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (decays, factor), parameters in groups.items()
    ]
