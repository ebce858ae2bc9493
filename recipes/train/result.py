"""The result of a run, and its export.

A finished run writes `trained.safetensors` (the trained weights), `adapter/` (the adapter in peft's format) and, if
asked for, `model/` (the whole model for `from_pretrained`). An export is a whole model with merged adapters, or a small
folder without the language model's own weights, for `core_model.checkpoints.partial_checkpoint`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from mgem_agent.core_model.checkpoints.partial_checkpoint import ADAPTER_FOLDER, WEIGHTS_FILE, own_weights
from mgem_agent.errors import InputError
from mgem_agent.recipes.train.checkpoints import Checkpoints, newest_checkpoint, put_in_place
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.config_file import load_config
from mgem_agent.recipes.train.engines import gathered_weights
from mgem_agent.recipes.train.model_setup import TRAINED_FILE, TrainedModel, load_trained, prepare_model

__all__ = ["BEST_FOLDER", "CONFIG_FILE", "export_model", "export_without_llm", "save_result"]

CONFIG_FILE = "config.yaml"
BEST_FOLDER = "best"
MODEL_FOLDER = "model"


def save_result(
    folder: Path, config: TrainConfig, accelerator: Accelerator, module: nn.Module, trained: TrainedModel
) -> None:
    """Write the result of a finished run; every process has to call this.

    Args:
        folder: The run's folder.
        config: The run.
        accelerator: Coordinates the processes.
        module: The prepared `TargetLoss`.
        trained: The model in it.
    """
    saves_model = trained.adapters is None and config.run.save == "model"
    weights = gathered_weights(accelerator, module, trained.model, only_trained=not saves_model)
    if not accelerator.is_main_process:
        return
    if config.train.llm != "full" or config.run.save == "trained":
        wanted = [name for name, parameter in trained.model.named_parameters() if parameter.requires_grad]
        passing = folder / (TRAINED_FILE + ".part")
        save_file({name: weights[name] for name in wanted}, passing, metadata={"format": "pt"})
        put_in_place(passing, folder / TRAINED_FILE)
    if trained.adapters is not None:
        _save_adapter(trained, folder / ADAPTER_FOLDER, weights)
    elif saves_model:
        passing = folder / (MODEL_FOLDER + ".part")
        shutil.rmtree(passing, ignore_errors=True)
        trained.model.save_pretrained(passing, state_dict=weights)
        trained.processor.save_pretrained(passing)
        put_in_place(passing, folder / MODEL_FOLDER)


def _save_adapter(trained: TrainedModel, place: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write the adapter; `weights` are those of the model, by name, where they are not in the model itself."""
    if trained.adapters is None:
        raise InputError("This run has no adapters.")
    passing = place.with_name(place.name + ".part")
    shutil.rmtree(passing, ignore_errors=True)
    state = None if weights is None else {f"base_model.model.{name}": value for name, value in weights.items()}
    trained.adapters.save_pretrained(str(passing), save_embedding_layers=False, state_dict=state)
    (passing / "README.md").unlink(missing_ok=True)  # peft's empty form
    put_in_place(passing, place)


def _finished(run: Path) -> tuple[TrainConfig, TrainedModel]:
    """Return the model of a run with its trained weights, from its result or its newest checkpoint."""
    if not (run / CONFIG_FILE).is_file():
        raise InputError(
            f"{str(run)!r} is not the folder of a run: it has no {CONFIG_FILE}. Give the folder that run.output names."
        )
    config = load_config(run / CONFIG_FILE)
    source = run if (run / TRAINED_FILE).is_file() else newest_checkpoint(run)
    if source is None:
        raise InputError(
            f"The run {str(run)!r} has no result and no checkpoint yet. Resume it: mgem train {run / CONFIG_FILE}"
        )
    progress = {} if source == run else Checkpoints.read_progress(source)
    if progress.get("engine", "DDP") not in ("one process", "DDP"):
        raise InputError(
            f"The run {str(run)!r} has no result yet, and its checkpoint is divided among {progress['num_processes']} "
            "processes. Finish the run: its last step writes the result."
        )
    whole = config.model.model_copy(update={"quantize": None})  # adapters are merged into unquantized weights
    trained = prepare_model(config.model_copy(update={"model": whole}), torch.float32)
    load_trained(trained.model, source)
    return config, trained


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} already exists. Delete it, or give another folder.")


def export_model(run: Path, out: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the whole model of a run, adapters merged, for `from_pretrained`.

    Args:
        run: The run's folder.
        out: The folder to create.
        dtype: Data type of the weights.

    Raises:
        InputError: If there is no such run, or `out` is not empty.
    """
    _check_free(out)
    _, trained = _finished(run)
    model: Any = trained.model if trained.adapters is None else trained.adapters.merge_and_unload()
    model = model.to(dtype)
    model.config.dtype = dtype
    passing = out.with_name(out.name + ".part")
    shutil.rmtree(passing, ignore_errors=True)
    model.save_pretrained(passing)
    trained.processor.save_pretrained(passing)
    _replace_empty(passing, out)


def export_without_llm(run: Path, out: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write everything except the language model's own weights: encoders, mining, projector, adapter.

    Args:
        run: The run's folder.
        out: The folder to create.
        dtype: Data type of the weights.

    Raises:
        InputError: If there is no such run, `out` is not empty, or the language model itself was trained.
    """
    _check_free(out)
    config, trained = _finished(run)
    if config.train.llm == "full":
        raise InputError(
            f"The run {str(run)!r} trained the language model itself, so its weights are needed. "
            f"Export the whole model: mgem train export {run} {out}"
        )
    passing = out.with_name(out.name + ".part")
    shutil.rmtree(passing, ignore_errors=True)
    passing.mkdir(parents=True)
    save_file(own_weights(trained.model, dtype), passing / WEIGHTS_FILE, metadata={"format": "pt"})
    own: Any = trained.model.config
    for part in (own, *(getattr(own, name) for name in own.sub_configs)):
        if part is not None:
            part.name_or_path = ""  # do not publish local paths
    own.save_pretrained(passing)
    if trained.adapters is not None:
        for name, parameter in trained.adapters.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.to(dtype)
        _save_adapter(trained, passing / ADAPTER_FOLDER)
    for file in passing.rglob("*.safetensors"):
        file.chmod(passing.stat().st_mode & 0o666)  # safetensors makes files readable by the owner only
    _replace_empty(passing, out)


def _replace_empty(passing: Path, out: Path) -> None:
    if out.is_dir():
        out.rmdir()
    put_in_place(passing, out)
