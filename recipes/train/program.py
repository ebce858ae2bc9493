"""The training program: from a configuration to a finished run, in one or many processes.

`accelerate launch` sets the number of processes and how they share the model; the configuration sets everything else. A
run whose folder has a checkpoint resumes from it, with bit-identical results.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import nn

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.batch_plan import BatchPlan
from mgem_agent.recipes.train.broken_report import BrokenReport, by_source
from mgem_agent.recipes.train.checkpoints import Checkpoints, keep_trained_weights
from mgem_agent.recipes.train.config import DataConfig, SourceConfig, TrainConfig
from mgem_agent.recipes.train.config_file import read_settings
from mgem_agent.recipes.train.engines import create_accelerator, engine_of, loads_weights, partition
from mgem_agent.recipes.train.examples import Examples
from mgem_agent.recipes.train.held_out import HeldOut
from mgem_agent.recipes.train.model_outline import outline_run
from mgem_agent.recipes.train.model_setup import TrainedModel, parameter_groups, prepare_model
from mgem_agent.recipes.train.precision import matmul_precision, training_dtype
from mgem_agent.recipes.train.record_sources import open_records
from mgem_agent.recipes.train.result import BEST_FOLDER, CONFIG_FILE, save_result
from mgem_agent.recipes.train.step_batches import StepBatches
from mgem_agent.recipes.train.stop_signal import StopSignal
from mgem_agent.recipes.train.target_loss import TargetLoss
from mgem_agent.recipes.train.training_loop import TrainingLoop
from mgem_agent.recipes.train.utilisation import flops_per_token, measured_peak

__all__ = ["Outcome", "train", "training_examples"]

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        step: Number of steps done.
        num_steps: Steps of the whole run.
        stopped_by: Number of the signal that stopped it early, or None.
        loss: Mean training loss in the last line of the log; None before the first line.
    """

    step: int
    num_steps: int
    stopped_by: int | None = None
    loss: float | None = None


def train(config: TrainConfig, *, report: Report = lambda message: None) -> Outcome:
    """Start or resume a run.

    Args:
        config: The configuration.
        report: Called with progress messages, in the main process only.

    Returns:
        How it ended. SIGINT and SIGTERM stop it after the current step, with a checkpoint.

    Raises:
        InputError: If the data or the configuration are not usable, or the folder holds another run.
        CheckpointError: If weights cannot be read or do not fit.
    """
    accelerator = create_accelerator(config)
    say: Report = report if accelerator.is_main_process else lambda message: None
    folder = Path(config.run.output)
    with StopSignal() as stop, matmul_precision(config.run.precision):
        _claim(folder, config, accelerator)
        set_seed(config.run.seed)
        trained, counts = _model(config, accelerator)
        examples = training_examples(config.data.sources, config, trained)
        plan = _plan(examples, config)
        for line in by_source(examples.problems):
            say(f"Replaced by other records of the same source: {line}")
        num_steps = config.run.max_steps or math.ceil(plan.steps_per_epoch * config.run.epochs)
        loop = _loop(config, accelerator, trained, folder, num_steps)
        if config.run.trackers:
            accelerator.init_trackers("mgem", config=_flat(config.model_dump(mode="json")))
        set_seed(config.run.seed)  # so that dropout does not depend on how the model was built
        loop.restore()
        say(_opening(config, accelerator, counts, examples, num_steps, loop.step))
        data = StepBatches(
            examples,
            plan,
            process=accelerator.process_index,
            num_processes=accelerator.num_processes,
            micro_batch=config.run.micro_batch,
        )
        broken = BrokenReport(folder, accelerator.process_index)
        held_out = _held_out(config, accelerator, trained)
        loop.run(data.loader(loop.step, num_steps, config.data.num_workers), broken, held_out, stop, say)
        if summary := broken.summary():
            say(summary)
    if loop.step == num_steps:
        save_result(folder, config, accelerator, loop.module, trained)
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:
        tracker.finish()
    return Outcome(loop.step, num_steps, stop.received if loop.step < num_steps else None, loop.last_loss)


def _model(config: TrainConfig, accelerator: Accelerator) -> tuple[TrainedModel, tuple[int, int]]:
    """Return the model, divided among the processes if they share it, and its trained and all parameters."""
    if loads_weights(accelerator):
        trained = prepare_model(config, training_dtype(config.run.precision))
    else:
        trained = outline_run(config)
    parameters = list(trained.model.parameters())
    own = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    partition(accelerator, trained.model)
    return trained, (own, total)


def _claim(folder: Path, config: TrainConfig, accelerator: Accelerator) -> None:
    """Write the configuration into the run's folder, unless the folder holds another run."""
    file = folder / CONFIG_FILE
    if file.is_file():
        before = TrainConfig.model_validate(read_settings(file)).result_settings()
        differing = _differing(before, config.result_settings())
        if differing:
            lines = "\n".join(f"  {key}: {old!r} before, {new!r} now" for key, old, new in differing)
            raise InputError(
                f"The folder {str(folder)!r} holds another run, which these settings would change:\n{lines}\n"
                f"Give another run.output, or the earlier settings to resume it."
            )
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        passing = file.with_suffix(".part")
        passing.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        passing.replace(file)
    accelerator.wait_for_everyone()


def _differing(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted({*before, *now})
        return [found for name in names for found in _differing(before.get(name), now.get(name), f"{key}.{name}")]
    return [] if before == now else [(key.lstrip("."), before, now)]


def training_examples(sources: tuple[SourceConfig, ...], config: TrainConfig, trained: TrainedModel) -> Examples:
    """Return the records of files as examples, in the dialogue format of the data or, without one, of the model."""
    data: DataConfig = config.data
    return Examples(
        [open_records(source.path, source.images) for source in sources],
        trained.processor,
        prompt_template=data.prompt_template or trained.model.config.prompt_template,
        image_aspect_ratio=data.image_aspect_ratio,
        max_length=data.max_length,
        on_broken=data.on_broken,
        on_too_long=data.on_too_long,
        rules=data.records,
        seed=config.run.seed,
        check_first=data.check_first,
        packing=data.packing,
    )


def _plan(examples: Examples, config: TrainConfig) -> BatchPlan:
    lengths, num_images, files = examples.sizes()
    return BatchPlan(
        lengths,
        num_images,
        files,
        [source.repeat for source in config.data.sources],
        global_batch=config.run.global_batch,
        seed=config.run.seed,
        group_by_length=config.data.group_by_length,
    )


def _loop(
    config: TrainConfig, accelerator: Accelerator, trained: TrainedModel, folder: Path, num_steps: int
) -> TrainingLoop:
    settings = config.optimizer
    groups = parameter_groups(
        trained.model,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        multipliers=settings.multipliers,
    )
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, fused=True)
    # DeepSpeed makes a step in the backward pass, so each batch needs one; DDP may wrap the model in one process, too.
    needs_images = accelerator.distributed_type != DistributedType.NO
    loss = TargetLoss(trained.model, needs_images=needs_images)
    module, prepared = accelerator.prepare(loss.train(), optimizer)
    keep_trained_weights(accelerator)
    keeps_best = config.evaluation is not None and config.evaluation.keep_best
    return TrainingLoop(
        accelerator,
        module,
        prepared,
        Checkpoints(folder, accelerator, config.run.keep_checkpoints),
        folder=folder,
        settings=settings,
        num_steps=num_steps,
        log_every=config.run.log_every,
        checkpoint_every=config.run.checkpoint_every,
        flops=(flops_per_token(trained.model), measured_peak(accelerator.device, training_dtype(config.run.precision))),
        keep_best=partial(_keep_best, folder, config, accelerator, module, trained) if keeps_best else None,
    )


def _keep_best(
    folder: Path, config: TrainConfig, accelerator: Accelerator, module: nn.Module, trained: TrainedModel
) -> None:
    """Write the result as it is now into `best/`, with the configuration, so that it can be exported."""
    best = folder / BEST_FOLDER
    if accelerator.is_main_process:
        best.mkdir(exist_ok=True)
        shutil.copy(folder / CONFIG_FILE, best / CONFIG_FILE)
    save_result(best, config, accelerator, module, trained)
    accelerator.wait_for_everyone()


def _flat(settings: Any, key: str = "") -> dict[str, str]:
    """Return settings as trackers take them: texts by dotted names."""
    if not isinstance(settings, dict):
        return {key: str(settings)}
    return {
        name: text for part in settings for name, text in _flat(settings[part], f"{key}.{part}".lstrip(".")).items()
    }


def _held_out(config: TrainConfig, accelerator: Accelerator, trained: TrainedModel) -> HeldOut | None:
    if config.evaluation is None:
        return None
    examples = training_examples(config.evaluation.sources, config, trained)
    return HeldOut(
        examples,
        every=config.evaluation.every,
        max_records=config.evaluation.max_records,
        micro_batch=config.run.micro_batch,
        process=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )


def _opening(
    config: TrainConfig,
    accelerator: Accelerator,
    counts: tuple[int, int],
    examples: Examples,
    num_steps: int,
    step: int,
) -> str:
    own, total = counts
    dtype = str(training_dtype(config.run.precision)).removeprefix("torch.")
    dtype = "tf32" if config.run.precision == "tf32" else dtype
    return (
        f"{config.stage}: {own:,} of {total:,} parameters trained; "
        f"{len(examples):,} records, {num_steps:,} steps of {config.run.global_batch} from step {step:,}; "
        f"{accelerator.num_processes} process(es) on {accelerator.device.type}, {engine_of(accelerator)}, {dtype}"
    )
