"""How the processes of a run share the model: DDP, DeepSpeed ZeRO or FSDP2, through accelerate.

`accelerate launch --config_file` chooses it; `recipes/train/accelerate/` has tested configurations. What DeepSpeed
would read from a file of its own (clipping, batch) comes from the run's configuration, so that all engines do the same.

Under ZeRO-3 the weights of a model need not fit into the memory of a process. Only the main process loads them. The
others build the same model on the meta device, and get their part of one module after the other. So every source of
weights works as in one process: parts, checkpoints, earlier runs, adapters.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, broadcast, broadcast_object_list
from torch import Tensor, nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mgem_agent.core_model.mining import PatchInfoMining
from mgem_agent.errors import InputError
from mgem_agent.extras import require_packages
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.precision import training_dtype

__all__ = [
    "Engine",
    "create_accelerator",
    "engine_of",
    "gathered_weights",
    "loads_weights",
    "partition",
    "whole_shape",
]

Engine = Literal["one process", "DDP", "FSDP", "ZeRO-1", "ZeRO-2", "ZeRO-3"]

_TIMEOUT = timedelta(hours=2)
"""How long a process waits for another: the main process may load weights, or write them, for many minutes."""


def create_accelerator(config: TrainConfig) -> Accelerator:
    """Return the accelerator of a run, as the environment from `accelerate launch` says.

    Args:
        config: The run.

    Raises:
        InputError: If the global batch cannot be divided evenly, or a tracker is not installed.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        require_packages("DeepSpeed ZeRO", "deepspeed")
    # Without this, on a machine without a GPU, each process would believe that it is the only one.
    on_cpu = not torch.accelerator.is_available() and "ACCELERATE_USE_DEEPSPEED" not in os.environ
    try:
        accumulation = config.accumulation(PartialState(cpu=on_cpu, **_communication()).num_processes)
    except ValueError as error:
        raise InputError(str(error)) from error
    mixed = "bf16" if training_dtype(config.run.precision) == torch.bfloat16 else "no"
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=mixed,
        gradient_accumulation_steps=accumulation,
        log_with=_trackers(config) or None,
        project_dir=config.run.output,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
    )
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        own = plugin.deepspeed_config
        own["train_micro_batch_size_per_gpu"] = config.run.micro_batch  # accelerate would ask its own data loader
        own["gradient_accumulation_steps"] = accumulation
        own["gradient_clipping"] = config.optimizer.max_grad_norm or 0.0  # accelerate's default is 1
        # Otherwise transformers would partition each part of the model while it loads it. `partition` does that.
        plugin.dschf = None
        unset_hf_deepspeed_config()
    return accelerator


def _trackers(config: TrainConfig) -> list[Any]:
    """Return the trackers of a run; accelerate leaves out what is not installed without a word."""
    able = {str(name) for name in get_available_trackers()}
    missing = [name for name in config.run.trackers if name not in able]
    if missing:
        have = f"Installed here: {', '.join(sorted(able))}." if able else "None is installed here."
        raise InputError(
            f"The tracker {missing[0]!r} of run.trackers is not one of accelerate's, or its package is not installed. "
            f"{have}"
        )
    return list(config.run.trackers)


def _communication() -> dict[str, Any]:
    """Return how processes communicate; accelerate finds no way for DeepSpeed without a GPU."""
    if "LOCAL_RANK" not in os.environ:
        return {}
    backend = {} if torch.accelerator.is_available() else {"backend": "gloo"}
    return {"timeout": _TIMEOUT, **backend}


def engine_of(accelerator: Accelerator) -> Engine:
    """Return how the processes share the model.

    Args:
        accelerator: Coordinates the processes.
    """
    kind = accelerator.distributed_type
    if kind == DistributedType.DEEPSPEED:
        plugin: Any = accelerator.state.deepspeed_plugin
        stage = plugin.zero_stage
        return "ZeRO-3" if stage == 3 else "ZeRO-2" if stage == 2 else "ZeRO-1"
    if kind == DistributedType.FSDP:
        return "FSDP"
    return "DDP" if accelerator.num_processes > 1 else "one process"


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter, also of one that ZeRO-3 has divided.

    Args:
        parameter: The parameter.
    """
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def loads_weights(accelerator: Accelerator) -> bool:
    """Return whether this process loads the model's weights; under ZeRO-3 only the main process does.

    Args:
        accelerator: Coordinates the processes.
    """
    return accelerator.is_main_process or engine_of(accelerator) != "ZeRO-3"


def partition(accelerator: Accelerator, model: nn.Module) -> None:
    """Under ZeRO-3, divide the weights of the main process among all; otherwise do nothing.

    Args:
        accelerator: Coordinates the processes.
        model: The model: with weights in the main process, on the meta device in the others.

    Raises:
        InputError: If the processes have different models.
    """
    if engine_of(accelerator) != "ZeRO-3":
        return
    import deepspeed  # pyright: ignore[reportMissingImports]

    _check_same(accelerator, model)
    _share_buffers(accelerator, model)
    plugin: Any = accelerator.state.deepspeed_plugin
    config: dict[str, Any] = {**plugin.deepspeed_config}
    config.pop("train_batch_size", None)  # "auto" until accelerate prepares the model
    dtype = torch.bfloat16 if config.get("bf16", {}).get("enabled") else torch.float32
    made: dict[int, nn.Parameter] = {}
    for module in reversed(list(model.modules())):  # children first: a module's parameters include theirs
        _make_room(module, accelerator.device, dtype, made)
        if any(True for _ in module.parameters(recurse=False)):
            deepspeed.zero.Init(module=module, config_dict_or_path=config, dtype=dtype)
    experts = {type(module) for module in model.modules() if type(module).__name__.endswith("SparseMoeBlock")}
    if experts:  # ZeRO-3 fetches all experts of a layer at once: which of them a token uses differs between processes
        deepspeed.utils.set_z3_leaf_modules(model, list(experts))
    for module in model.modules():
        if isinstance(module, PatchInfoMining):  # it uses the weights of its layers without calling the layers
            for parameter in module.parameters():
                deepspeed.zero.register_external_parameter(module, parameter)


def _make_room(module: nn.Module, device: torch.device, dtype: torch.dtype, made: dict[int, nn.Parameter]) -> None:
    """Give a module parameters of the dtype, off the meta device; `made` has them by the id of the former ones."""
    for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
        if parameter.is_meta:
            if id(parameter) not in made:
                empty = torch.empty_like(parameter, device=device, dtype=dtype)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
        elif not hasattr(parameter, "ds_id"):
            parameter.data = parameter.data.to(dtype)


def _check_same(accelerator: Accelerator, model: nn.Module) -> None:
    own = [(name, tuple(value.shape), value.requires_grad) for name, value in model.named_parameters()]
    main = broadcast_object_list([own])[0]
    if main != own:
        differing = sorted({name for name, _, _ in set(main) ^ set(own)}) or ["their order"]
        raise InputError(
            f"Process {accelerator.process_index} would build another model than the main process: {differing[0]!r} "
            "differs. The folders of model.* must be the same on all machines."
        )


def _share_buffers(accelerator: Accelerator, model: nn.Module) -> None:
    names = sorted(name for name, _ in model.named_buffers())
    facts = [(name, model.get_buffer(name).shape, model.get_buffer(name).dtype) for name in names]
    for name, shape, dtype in broadcast_object_list([facts])[0]:
        place, _, last = name.rpartition(".")
        owner = model.get_submodule(place)
        value = model.get_buffer(name)
        if value.is_meta:
            value = torch.empty(shape, dtype=dtype)
        setattr(owner, last, broadcast(value.to(accelerator.device)))


def gathered_weights(
    accelerator: Accelerator, module: nn.Module, model: nn.Module, *, only_trained: bool
) -> dict[str, Tensor]:
    """Return whole weights on the CPU, trained ones in float32; every process has to call this.

    Args:
        accelerator: Coordinates the processes.
        module: The prepared module.
        model: The model in it, whose names the weights have.
        only_trained: Whether to leave out frozen weights.

    Returns:
        The weights by name in the main process; the others may get an empty dictionary.
    """
    engine = engine_of(accelerator)
    if engine.startswith("ZeRO"):
        return _gathered_from_zero(accelerator, model, only_trained)
    if engine == "FSDP":
        return _gathered_from_fsdp(module, model, only_trained)
    if not accelerator.is_main_process:
        return {}
    wanted = _trained_names(model)
    return {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if name in wanted or not only_trained
    }


def _gathered_from_zero(accelerator: Accelerator, model: nn.Module, only_trained: bool) -> dict[str, Tensor]:
    import deepspeed  # pyright: ignore[reportMissingImports]
    from deepspeed.utils import safe_get_full_fp32_param  # pyright: ignore[reportMissingImports]

    keeps = accelerator.is_main_process
    gathered: dict[str, Tensor] = {}
    whole: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad and only_trained:
            continue
        if id(parameter) not in whole:
            if parameter.requires_grad:
                value: Any = safe_get_full_fp32_param(parameter)  # the optimizer's, more exact than the bfloat16 copy
                whole[id(parameter)] = value.detach().to("cpu", copy=True) if keeps else torch.empty(0)
            else:
                with deepspeed.zero.GatheredParameters([parameter]):
                    whole[id(parameter)] = parameter.detach().to("cpu", copy=True) if keeps else torch.empty(0)
        gathered[name] = whole[id(parameter)]
    if not keeps:
        return {}
    if not only_trained:
        kept = model.state_dict().keys()
        gathered |= {name: value.detach().cpu() for name, value in model.named_buffers() if name in kept}
    return gathered


def _gathered_from_fsdp(module: nn.Module, model: nn.Module, only_trained: bool) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=only_trained)
    state: dict[str, Any] = get_model_state_dict(module, options=options)
    prefix = next((f"{name}." for name, inner in module.named_modules() if inner is model), "")
    weights = {name.removeprefix(prefix): value for name, value in state.items()}
    if only_trained:
        trained = _trained_names(model)
        weights = {name: value for name, value in weights.items() if name in trained}
    return weights


def _trained_names(model: nn.Module) -> set[str]:
    return {name for name, value in model.named_parameters(remove_duplicate=False) if value.requires_grad}
