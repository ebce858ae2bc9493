"""Checkpoints of a run: complete or absent, only the newest few kept, and exact to the bit.

accelerate saves and restores the optimizer, the random states and, under DeepSpeed and FSDP, each process's part of the
model. A checkpoint is written to a temporary folder, which is renamed when all of it is on the disk.

`keep_trained_weights` writes only the trained weights of a Mini-Gemini model, as safetensors. Its frozen weights are
loaded from the checkpoint that the run started from.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.errors import CheckpointError
from mgem_agent.recipes.train.engines import engine_of
from mgem_agent.recipes.train.model_setup import TRAINED_FILE, load_trained
from mgem_agent.recipes.train.target_loss import TargetLoss

__all__ = ["Checkpoints", "keep_trained_weights", "newest_checkpoint", "put_in_place"]

_STATE_FILE = "progress.json"
_NAME = re.compile(r"step-(\d+)")
_PART = ".part"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: The run's folder.
        accelerator: Saves and restores the state; it has prepared the model and the optimizer.
        keep: How many of the newest checkpoints to keep.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int) -> None:
        self._folder = folder / "checkpoints"
        self._accelerator = accelerator
        self._keep = keep

    def save(self, step: int, progress: dict[str, Any]) -> Path:
        """Write a checkpoint; every process has to call this.

        Args:
            step: Number of steps done.
            progress: Other values that the run needs to resume, as JSON types.

        Returns:
            Its folder.
        """
        place = self._folder / f"step-{step:08d}"
        passing = place.with_name(place.name + _PART)
        if self._accelerator.is_main_process:
            shutil.rmtree(passing, ignore_errors=True)
            passing.mkdir(parents=True)
        self._accelerator.wait_for_everyone()
        self._accelerator.save_state(str(passing), **({"exclude_frozen_parameters": True} if self._is_zero() else {}))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            state = {"step": step, **self._layout(), **progress}
            (passing / _STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
            put_in_place(passing, place)
            for old in _finished(self._folder)[: -self._keep]:
                shutil.rmtree(old)
        self._accelerator.wait_for_everyone()
        return place

    def progress(self) -> dict[str, Any]:
        """Return what the newest checkpoint was saved with, `step` included; empty if there is no checkpoint.

        Raises:
            CheckpointError: If it cannot be read.
        """
        newest = newest_checkpoint(self._folder.parent)
        return {} if newest is None else self.read_progress(newest)

    @staticmethod
    def read_progress(checkpoint: Path) -> dict[str, Any]:
        """Return what a checkpoint was saved with.

        Args:
            checkpoint: Its folder.

        Raises:
            CheckpointError: If it cannot be read.
        """
        try:
            progress: dict[str, Any] = json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _unreadable(checkpoint, error) from error
        return progress

    def restore(self) -> dict[str, Any]:
        """Load the newest checkpoint, if there is one; every process has to call this.

        Returns:
            The same as `progress`.

        Raises:
            CheckpointError: If it cannot be read, or does not fit the model.
        """
        progress = self.progress()
        newest = newest_checkpoint(self._folder.parent)
        if newest is not None:
            self._check_layout(newest, progress)
            options: dict[str, Any] = {"load_module_strict": False} if self._is_zero() else {}
            try:
                self._accelerator.load_state(str(newest), **options)
            except (OSError, ValueError, RuntimeError) as error:
                raise _unreadable(newest, error) from error
        return progress

    def _is_zero(self) -> bool:
        return engine_of(self._accelerator).startswith("ZeRO")

    def _layout(self) -> dict[str, Any]:
        """Return how the files of a checkpoint are divided."""
        return {"engine": engine_of(self._accelerator), "num_processes": self._accelerator.num_processes}

    def _check_layout(self, newest: Path, progress: dict[str, Any]) -> None:
        """Refuse a checkpoint that other processes wrote, each its part, and that cannot be divided anew."""
        own, before = self._layout(), {"engine": "one process", "num_processes": 1} | progress
        engines = {own["engine"], before["engine"]}
        fits = own["num_processes"] == before["num_processes"] if self._is_zero() else True
        if not (engines <= {"one process", "DDP"} or (len(engines) == 1 and fits)):
            raise CheckpointError(
                f"The checkpoint {str(newest)!r} was written by {before['engine']} in {before['num_processes']} "
                f"process(es); this is {own['engine']} in {own['num_processes']}. Resume with the same: under ZeRO "
                "also the number of processes must be the same. DDP and FSDP2 resume in any number of processes."
            )


def _unreadable(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {str(checkpoint)!r} cannot be loaded: {error}. If it belongs to another model, give the run "
        "another folder. If it is damaged, delete it to resume from the one before."
    )


def keep_trained_weights(accelerator: Accelerator) -> None:
    """Let an accelerator save and load only the trained weights of a `TargetLoss`, not the frozen ones.

    Args:
        accelerator: It has prepared the model. Where it shards the weights, it saves them its own way.
    """

    def save(models: list[nn.Module], weights: list[Any], output_dir: str) -> None:
        if weights:
            weights.clear()
            if accelerator.is_main_process:
                save_trained(_model_in(accelerator.unwrap_model(models[0])), Path(output_dir) / TRAINED_FILE)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(_load_model)


def _load_model(models: list[nn.Module], input_dir: str) -> None:
    while models:
        model = models.pop()
        load_trained(_model_in(getattr(model, "module", model)), Path(input_dir) / TRAINED_FILE)


def _model_in(module: nn.Module) -> MiniGeminiForConditionalGeneration:
    if not isinstance(module, TargetLoss):
        raise TypeError(f"Expected a TargetLoss, got {type(module).__name__}.")
    return module.model


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the trainable parameters of a model by name.

    Args:
        model: The model.
    """
    return {
        name: parameter.detach().contiguous() for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def save_trained(model: nn.Module, file: Path) -> None:
    """Write the trainable parameters of a model.

    Args:
        model: The model.
        file: The file to write.
    """
    save_file(trained_weights(model), file, metadata={"format": "pt"})


def newest_checkpoint(run: Path) -> Path | None:
    """Return the folder of a run's newest checkpoint, or None.

    Args:
        run: The run's folder.
    """
    finished = _finished(run / "checkpoints")
    return finished[-1] if finished else None


def _finished(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    places = folder.iterdir() if folder.is_dir() else ()
    return sorted((place for place in places if _NAME.fullmatch(place.name)), key=lambda place: int(place.name[5:]))


def put_in_place(passing: Path, place: Path) -> None:
    """Flush a finished folder or file to the disk and rename it; an existing one of that name is replaced.

    Args:
        passing: The temporary folder or file, in the same folder as `place`.
        place: The final path.
    """
    for file in [passing, *passing.rglob("*")] if passing.is_dir() else [passing]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    if place.is_dir():
        before = place.with_name(place.name + ".before" + _PART)
        place.rename(before)
        passing.rename(place)
        shutil.rmtree(before)
    else:
        passing.replace(place)
