"""Checkpoints of a run: whole or not there, the newest few kept, and exact to the bit.

accelerate saves and restores optimizer, random states and, under DeepSpeed and FSDP, each process's part of the model.
Without these, only what is trained is written, as safetensors: frozen weights come from where they came from before. A
checkpoint is written beside its place and renamed when all of it is on the disk.
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
from mgem_agent.recipes.train.model_setup import TRAINED_FILE, load_trained
from mgem_agent.recipes.train.target_loss import TargetLoss

__all__ = ["Checkpoints", "newest_checkpoint", "put_in_place", "save_trained", "trained_weights"]

_STATE_FILE = "progress.json"
_NAME = re.compile(r"step-(\d+)")
_PART = ".part"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: The run's folder.
        accelerator: What saves and restores; the model and the optimizer have been prepared by it.
        keep: Newest checkpoints to keep.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int) -> None:
        self._folder = folder / "checkpoints"
        self._accelerator = accelerator
        self._keep = keep
        accelerator.register_save_state_pre_hook(self._save_model)
        accelerator.register_load_state_pre_hook(_load_model)

    def save(self, step: int, progress: dict[str, Any]) -> Path:
        """Write a checkpoint; all processes call this together.

        Args:
            step: Steps that were made.
            progress: What else the run wants back, as JSON has it.

        Returns:
            Its folder.
        """
        place = self._folder / f"step-{step:08d}"
        passing = place.with_name(place.name + _PART)
        if self._accelerator.is_main_process:
            shutil.rmtree(passing, ignore_errors=True)
            passing.mkdir(parents=True)
        self._accelerator.wait_for_everyone()
        self._accelerator.save_state(str(passing))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            (passing / _STATE_FILE).write_text(json.dumps({"step": step, **progress}), encoding="utf-8")
            put_in_place(passing, place)
            for old in _finished(self._folder)[: -self._keep]:
                shutil.rmtree(old)
        self._accelerator.wait_for_everyone()
        return place

    def restore(self) -> dict[str, Any]:
        """Go back to the newest checkpoint, if there is one; all processes call this together.

        Returns:
            What `save` was given, `step` included; empty if there is no checkpoint.

        Raises:
            CheckpointError: If it cannot be read.
        """
        newest = newest_checkpoint(self._folder.parent)
        if newest is None:
            return {}
        try:
            self._accelerator.load_state(str(newest))
            progress: dict[str, Any] = json.loads((newest / _STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"The checkpoint {str(newest)!r} cannot be read: {error}. Remove it to go on from the one before it."
            ) from error
        return progress

    def _save_model(self, models: list[nn.Module], weights: list[Any], output_dir: str) -> None:
        """Write what is trained in place of all weights; where accelerate shards them, there is nothing here to do."""
        if weights:
            weights.clear()
            if self._accelerator.is_main_process:
                save_trained(_model_in(self._accelerator.unwrap_model(models[0])), Path(output_dir) / TRAINED_FILE)


def _load_model(models: list[nn.Module], input_dir: str) -> None:
    while models:
        model = models.pop()
        load_trained(_model_in(getattr(model, "module", model)), Path(input_dir) / TRAINED_FILE)


def _model_in(module: nn.Module) -> MiniGeminiForConditionalGeneration:
    if not isinstance(module, TargetLoss):
        raise TypeError(f"A TargetLoss is trained here, got {type(module).__name__}.")
    return module.model


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a model that are trained, by name.

    Args:
        model: The model.
    """
    return {
        name: parameter.detach().contiguous() for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def save_trained(model: nn.Module, file: Path) -> None:
    """Write the parameters of a model that are trained.

    Args:
        model: The model.
        file: The file to make.
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
    """Checkpoints that are whole, oldest first."""
    places = folder.iterdir() if folder.is_dir() else ()
    return sorted((place for place in places if _NAME.fullmatch(place.name)), key=lambda place: int(place.name[5:]))


def put_in_place(passing: Path, place: Path) -> None:
    """Give a folder or file that is written its name, when it is safe on the disk; what had the name is replaced.

    Args:
        passing: What was written, beside its place.
        place: Its name.
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
