"""What a run will need, by arithmetic: parameters, memory of a process, steps, tokens and hours.

Nothing large is loaded. The formulas are in docs/guides/training.md. T is the number of trained parameters, F of frozen
ones, N of processes, and f the bytes of a frozen parameter (2 in bfloat16, 4 in float32).

| method | weights | gradients | optimizer |
| --- | --- | --- | --- |
| DDP | f F + 4 T | 4 T | 8 T |
| ZeRO-1 | f F + 2 T | 2 T | 12 T / N |
| ZeRO-2 | f F + 2 T | 2 T / N | 12 T / N |
| ZeRO-3 | (f F + 2 T) / N | 2 T / N | 12 T / N |
| FSDP2 | (f F + 4 T) / N | 4 T / N | 8 T / N |

DeepSpeed trains a bfloat16 copy and keeps float32 weights with the optimizer's two averages (12 bytes); the others
train float32 weights.
"""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.errors import InputError
from mgem_agent.recipes.train.batch_plan import BatchPlan
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.examples import Examples
from mgem_agent.recipes.train.model_outline import empty_model, load_processor, read_model_config
from mgem_agent.recipes.train.model_setup import lora_pattern, set_trained_parts
from mgem_agent.recipes.train.precision import training_dtype
from mgem_agent.recipes.train.record_sources import has_records, open_records
from mgem_agent.recipes.train.run_log import read_log

__all__ = [
    "DataSize",
    "MethodMemory",
    "PartSize",
    "RunEstimate",
    "activation_bytes",
    "estimate_run",
    "memory_of_methods",
    "part_sizes",
    "seconds_per_step",
]

_ADAM_BYTES = 8
_BYTES_PER_HIDDEN = 34
"""Bytes of one transformer layer's activations for each token and channel in 16 bits (Korthikanti et al., 2022).

Attention matrices are not counted: flash attention and SDPA do not keep them."""

_TARGETS_PER_PASS = 2048


@dataclass(frozen=True)
class PartSize:
    """The parameters of a part.

    Args:
        name: The part.
        num_trained: Trained parameters.
        num_frozen: Frozen parameters.
    """

    name: str
    num_trained: int
    num_frozen: int


@dataclass(frozen=True)
class MethodMemory:
    """Memory of one process on its GPU, in bytes, without activations.

    Args:
        method: How the processes share the model.
        weights: Weights, trained and frozen.
        gradients: Gradients.
        optimizer: State of the optimizer.
    """

    method: str
    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True)
class DataSize:
    """The length of a run.

    Args:
        num_records: Records of all sources.
        num_steps: Steps of the run.
        num_tokens: Approximate tokens of the run, visual tokens included.
    """

    num_records: int
    num_steps: int
    num_tokens: int


@dataclass(frozen=True)
class RunEstimate:
    """What a run will need.

    Args:
        parts: The parameters by part.
        memory: Memory of one process, by method.
        activation_bytes: Activations of one micro-batch of the longest records.
        accumulation: Micro-batches that one process accumulates in a step.
        data: The length of the run; None if its files are not here.
        hours: Hours of the run; None without a measured step or data.
        missing: Files of records that are not here.
    """

    parts: tuple[PartSize, ...]
    memory: tuple[MethodMemory, ...]
    activation_bytes: int
    accumulation: int
    data: DataSize | None
    hours: float | None
    missing: tuple[str, ...]


def estimate_run(config: TrainConfig, *, num_processes: int, step_s: float | None = None) -> RunEstimate:
    """Return what a run will need.

    Args:
        config: The run.
        num_processes: Number of processes.
        step_s: Measured seconds of a step.

    Raises:
        InputError: If the model's configuration cannot be read, or the batch cannot be divided evenly.
    """
    try:
        accumulation = config.accumulation(num_processes)
    except ValueError as error:
        raise InputError(str(error)) from error
    model_config = read_model_config(config.model)
    parts = part_sizes(empty_model(model_config), config)
    frozen_bytes = 2 if training_dtype(config.run.precision) == torch.bfloat16 else 4
    trained, frozen = sum(part.num_trained for part in parts), sum(part.num_frozen for part in parts)
    missing = tuple(source.path for source in config.data.sources if not has_records(source.path))
    data = None if missing else _data_size(config)
    hours = None if data is None or step_s is None else data.num_steps * step_s / 3600
    activations = activation_bytes(model_config.text_config, config)
    memory = memory_of_methods(trained, frozen, num_processes, frozen_bytes)
    return RunEstimate(tuple(parts), memory, activations, accumulation, data, hours, missing)


def part_sizes(model: MiniGeminiForConditionalGeneration, config: TrainConfig) -> list[PartSize]:
    """Return the parameters by part; the model's trained parts are set on the way.

    Args:
        model: An empty model.
        config: The run.

    Raises:
        InputError: If no layer of the model can have an adapter.
    """
    model.requires_grad_(False)
    set_trained_parts(model, config)
    counted: set[int] = set()

    def size(name: str, *modules: nn.Module | None) -> PartSize:
        counts = {True: 0, False: 0}
        for parameter in (parameter for module in filter(None, modules) for parameter in module.parameters()):
            if id(parameter) not in counted:  # the head may share its weights with the embedding
                counted.add(id(parameter))
                counts[parameter.requires_grad] += parameter.numel()
        return PartSize(name, counts[True], counts[False])

    trunk: Any = model.model
    parts = [
        size("vision_tower", trunk.vision_tower),
        size("high_res_vision_tower", trunk.high_res_vision_tower),
        size("mining", trunk.mining),
        size("projector", trunk.multi_modal_projector),
        *([] if trunk.reader is None else [size("reader", trunk.reader)]),
        size("llm", trunk.language_model, model.lm_head),
    ]
    if config.train.llm == "lora":
        pattern, rank = lora_pattern(model, config.train.lora), config.train.lora.rank
        layers = [module for name, module in model.named_modules() if re.fullmatch(pattern, name)]
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        parts.append(PartSize("lora", sum(rank * (layer.in_features + layer.out_features) for layer in linear), 0))
    return parts


def memory_of_methods(
    num_trained: int, num_frozen: int, num_processes: int, frozen_bytes: int
) -> tuple[MethodMemory, ...]:
    """Return the memory of one process by method; see the table at the top of this module.

    Args:
        num_trained: Number of trained parameters.
        num_frozen: Number of frozen parameters.
        num_processes: Number of processes.
        frozen_bytes: Bytes of a frozen parameter.
    """
    frozen = frozen_bytes * num_frozen

    def share(num_bytes: int) -> int:
        return math.ceil(num_bytes / num_processes)

    half, whole = 2 * num_trained, 4 * num_trained
    state, averages = half + half + _ADAM_BYTES * num_trained, _ADAM_BYTES * num_trained
    return (
        MethodMemory("DDP", frozen + whole, whole, averages),
        MethodMemory("ZeRO-1", frozen + half, half, share(state)),
        MethodMemory("ZeRO-2", frozen + half, share(half), share(state)),
        MethodMemory("ZeRO-2, optimizer on the CPU", frozen + half, share(half), 0),
        MethodMemory("ZeRO-3", share(frozen + half), share(half), share(state)),
        MethodMemory("FSDP2", share(frozen + whole), share(whole), share(averages)),
    )


def activation_bytes(text_config: Any, config: TrainConfig) -> int:
    """Return the activations of the language model for one micro-batch of the longest records, approximately.

    With gradient checkpointing: the input of every layer, and one layer's activations. Without: those of all layers.
    Both: two copies of the logits of one pass, in float32.

    Args:
        text_config: Configuration of the language model.
        config: The run.
    """
    channels = config.run.micro_batch * config.data.max_length * text_config.hidden_size
    channels *= 1 if training_dtype(config.run.precision) == torch.bfloat16 else 2  # the factors below are for 16 bits
    layers = text_config.num_hidden_layers
    logits = 2 * 4 * min(_TARGETS_PER_PASS, config.run.micro_batch * config.data.max_length) * text_config.vocab_size
    if config.run.gradient_checkpointing:
        return channels * (2 * layers + _BYTES_PER_HIDDEN) + logits
    return channels * _BYTES_PER_HIDDEN * layers + logits


def _data_size(config: TrainConfig) -> DataSize:
    sources = config.data.sources
    processor = load_processor(config.model)
    examples = Examples(
        [open_records(source.path, source.images) for source in sources],
        processor,
        prompt_template=config.data.prompt_template or processor.prompt_template,
        image_aspect_ratio=config.data.image_aspect_ratio,
        max_length=config.data.max_length,
        on_broken="skip",
        on_too_long=config.data.on_too_long,
        check_first=False,
    )
    lengths, num_images, owners = examples.sizes()
    repeats = [source.repeat for source in sources]
    plan = BatchPlan(lengths, num_images, owners, repeats, global_batch=config.run.global_batch, seed=config.run.seed)
    num_steps = config.run.max_steps or math.ceil(plan.steps_per_epoch * config.run.epochs)
    mean = np.average(np.minimum(lengths, config.data.max_length), weights=np.asarray(repeats)[owners])
    return DataSize(len(examples), num_steps, round(num_steps * config.run.global_batch * mean))


def seconds_per_step(run: Path) -> float:
    """Return the median seconds of a step of a run; the first line of its log, with the warm-up, is left out.

    Args:
        run: Folder of a run.

    Raises:
        InputError: If the folder has no log, or the log has fewer than two lines.
    """
    times = [line["seconds_per_step"] for line in read_log(run) if "seconds_per_step" in line][1:]
    if not times:
        raise InputError(
            f"The log of {str(run)!r} has fewer than two lines with the time of a step. Measure one with: mgem train "
            "CONFIG run.max_steps=20 run.log_every=5 run.output=runs/measured"
        )
    return float(statistics.median(times))
