"""The model of a run: loaded or built from parts, frozen except for the trained parts, with adapters if asked for.

Frozen weights have the precision of the run and get no gradient. Trained weights are float32, because bfloat16 would
lose the optimizer's small steps. The adapters are peft's.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.checkpoints.partial_checkpoint import (
    ADAPTER_FOLDER,
    lacks_language_model,
    load_without_language_model,
)
from mgem_agent.core_model.quantization import quantization_config
from mgem_agent.errors import CheckpointError, InputError
from mgem_agent.nano import find_language_model
from mgem_agent.nano.vision_language import VLM_WEIGHTS
from mgem_agent.recipes.train.config import LoraOptions, ModelConfig, TrainConfig
from mgem_agent.recipes.train.engines import whole_shape
from mgem_agent.user_files import user_path

__all__ = [
    "NANO",
    "PROMPT_TEMPLATE",
    "TRAINED_FILE",
    "TrainedModel",
    "check_places",
    "load_model",
    "load_trained",
    "lora_pattern",
    "parameter_groups",
    "prepare_model",
    "ready_model",
    "set_trained_parts",
    "small_folder",
    "with_attention",
]

TRAINED_FILE = "trained.safetensors"
"""The trained weights of a run, including adapters, by their names in the model."""

_ADAPTER_FILE = "adapter_model.safetensors"
_LORA = ".lora_"
_HUB_NAME = re.compile(r"(hf-hub:)?[\w][\w.-]*(/[\w][\w.-]*)?")
"""Names that may be hub ids: `owner/name`, or `name` alone."""
PROMPT_TEMPLATE = "vicuna_v1"
"""Dialogue format of a model that is built from parts without naming one."""

NANO = "nano"
"""As `model.checkpoint`: nano. As `model.text`: its language model, downloaded if missing."""


@dataclass
class TrainedModel:
    """A model ready to be trained.

    Args:
        model: The model, including adapters.
        processor: Its processor.
        adapters: The model as peft wraps it, if it has adapters.
    """

    model: MiniGeminiForConditionalGeneration
    processor: MiniGeminiProcessor
    adapters: PeftModel | None = None


def prepare_model(config: TrainConfig, dtype: torch.dtype) -> TrainedModel:
    """Load or build the model of a run, and freeze the parts that are not trained.

    Args:
        config: The run.
        dtype: Data type of the frozen weights.

    Raises:
        InputError: If the parts do not fit together, or no layer of the model can have an adapter.
        CheckpointError: If weights cannot be read or do not fit.
    """
    torch.manual_seed(config.run.seed)  # same initial weights in every process
    model, processor = load_model(config.model, dtype, merge=config.train.llm != "lora")
    return ready_model(model, processor, config, _begun(config))


def ready_model(
    model: MiniGeminiForConditionalGeneration,
    processor: MiniGeminiProcessor,
    config: TrainConfig,
    begun: Mapping[Path, dict[str, Tensor]] | None,
) -> TrainedModel:
    """Add adapters to a model, and freeze the parts that are not trained.

    Args:
        model: The model.
        processor: Its processor.
        config: The run.
        begun: Weights that the run starts from, by file; None for a model on the meta device, which gets no values.

    Raises:
        InputError: If no layer of the model can have an adapter.
        CheckpointError: If weights do not fit.
    """
    is_empty, begun = begun is None, begun or {}
    for file, weights in begun.items():  # before adapters rename the layers
        _put_over(model, {name: value for name, value in weights.items() if _LORA not in name}, file)
    model.requires_grad_(False)
    adapters = _with_adapters(model, config, is_empty) if config.train.llm == "lora" else None
    for file, weights in begun.items():
        _put_over(model, {name: value for name, value in weights.items() if _LORA in name}, file)
    set_trained_parts(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if config.run.gradient_checkpointing:
        language_model: Any = model.model.language_model
        newer = getattr(language_model, "activation_checkpointing_enable", None)  # transformers 5.23 renamed it
        (newer or language_model.gradient_checkpointing_enable)({"use_reentrant": False})
    if config.run.compile and not is_empty:
        for layer in cast(Any, model.model.language_model).layers:  # one by one: they share their compiled code
            layer.compile()
    return TrainedModel(model, processor, adapters)


def set_trained_parts(model: MiniGeminiForConditionalGeneration, config: TrainConfig) -> None:
    """Let gradients reach the trained parts of a frozen model.

    Args:
        model: The model.
        config: The run.
    """
    model.model.config.freeze_vision_tower = not config.train.vision_tower
    model.model.config.freeze_high_res_vision_tower = not config.train.high_res_vision_tower
    for name in config.trained_modules:
        part = getattr(model.model, name)
        if part is not None:  # a checkpoint without high resolution has no mining
            part.requires_grad_(True)
    if config.train.llm == "full":
        model.lm_head.requires_grad_(True)
    if config.train.vision_tower:
        is_high_res_trained = config.train.high_res_vision_tower
        model.model.apply_freezing()  # keeps unused layers of the encoder frozen
        if model.model.high_res_vision_tower is not None:
            model.model.high_res_vision_tower.requires_grad_(is_high_res_trained)


def _begun(config: TrainConfig) -> dict[Path, dict[str, Tensor]]:
    """Return the weights that the run starts from, by file."""
    runs = config.model.start_from or ()
    begun = dict(_trained_weights(Path(run)) for run in ((runs,) if isinstance(runs, str) else runs))
    for file, weights in begun.items():
        if config.train.llm != "lora" and any(_LORA in name for name in weights):
            raise InputError(
                f"{str(file)!r} holds an adapter, and this run has train.llm={config.train.llm}. Set it to lora, or "
                "start from another run."
            )
    return begun


def load_model(
    source: ModelConfig, dtype: torch.dtype, *, merge: bool = True
) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """Load a checkpoint, or build a model from its parts, and return it with its processor.

    Args:
        source: Source of the model; `start_from` is ignored.
        dtype: Data type of the weights.
        merge: Whether to merge the adapter of a checkpoint without language model into that; otherwise it is omitted.

    Raises:
        InputError: If the parts do not fit together.
        CheckpointError: If weights cannot be read.
    """
    check_places(source)
    small = small_folder(source)
    if small is not None:
        if source.quantize is not None:
            raise InputError(
                f"model.quantize needs a whole checkpoint, and {source.checkpoint!r} has no language model of its own. "
                "Leave it out, or export a whole model: mgem train export"
            )
        text, tokenizer = _language_model(source.text or NANO, dtype)
        model = load_without_language_model(small, text, dtype=dtype, merge=merge)
        model.config.prompt_template = source.prompt_template or model.config.prompt_template
        return with_attention(model, source.attention), MiniGeminiProcessor.from_model_config(model.config, tokenizer)
    if source.checkpoint is not None:
        if source.text is not None:
            raise InputError(
                f"model.checkpoint={source.checkpoint!r} has its own language model, but model.text is "
                f"{source.text!r}. Omit one of them."
            )
        packed: dict[str, Any] = {}
        if source.quantize is not None:
            packed["quantization_config"] = quantization_config(source.quantize, "bitsandbytes")
        model = MiniGeminiForConditionalGeneration.from_pretrained(source.checkpoint, dtype=dtype, **packed)
        model.config.prompt_template = source.prompt_template or model.config.prompt_template
        other = {} if source.prompt_template is None else {"prompt_template": source.prompt_template}
        processor = MiniGeminiProcessor.from_pretrained(source.checkpoint, **other)
        return with_attention(model, source.attention), processor
    text, tokenizer = _language_model(str(source.text), dtype)
    model = MiniGeminiForConditionalGeneration.from_vision_text_pretrained(
        str(source.vision),
        source.high_res_vision,
        text,
        dtype=dtype,
        prompt_template=source.prompt_template or PROMPT_TEMPLATE,
        **({"high_res_image_size": source.high_res_image_size} if source.has_high_res else {}),
        image_grid=source.image_grid,
        image_global=source.image_global,
    )
    return with_attention(model, source.attention), MiniGeminiProcessor.from_model_config(model.config, tokenizer)


def check_places(source: ModelConfig) -> None:
    """Check that what can only be a path is one that exists, because the hub's library takes any name for an id.

    Args:
        source: Source of the model.

    Raises:
        InputError: If a folder or file is missing.
    """
    for field in ("checkpoint", "vision", "high_res_vision", "text"):
        name = getattr(source, field)
        if name is None or _HUB_NAME.fullmatch(name) or user_path(name).exists():
            continue
        raise InputError(
            f"model.{field} is {name!r}: there is no such folder or file in {os.getcwd()!r}, and a hub id has the form "
            "'owner/name'. Make it first, run the command from another folder, or name another model with "
            f"model.{field}=…"
        )


def small_folder(source: ModelConfig) -> Path | None:
    """Return the folder of a checkpoint without language model, or None for any other.

    Args:
        source: Source of the model.
    """
    if source.checkpoint is None:
        return None
    folder = VLM_WEIGHTS if source.checkpoint == NANO else user_path(source.checkpoint)
    return folder if folder.is_dir() and lacks_language_model(folder) else None


def with_attention(
    model: MiniGeminiForConditionalGeneration, attention: str | None
) -> MiniGeminiForConditionalGeneration:
    """Set the attention of a model's language model, and return the model.

    Args:
        model: The model.
        attention: transformers' `attn_implementation`; None keeps the model's own.
    """
    if attention is not None:
        model.model.language_model.set_attn_implementation(attention)
    return model


def _language_model(source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    if source == NANO:
        source = str(find_language_model())
    if not source.endswith(".gguf"):
        return AutoModelForCausalLM.from_pretrained(source, dtype=dtype), AutoTokenizer.from_pretrained(source)
    folder, name = str(Path(source).parent), Path(source).name
    packed: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=dtype)
    # transformers treats a model from such a file as quantized, and would neither train nor save it.
    settings = packed.config.to_dict()
    settings.pop("quantization_config", None)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(type(packed.config).from_dict(settings))
    for place, part in packed.named_children():
        setattr(model, place, part)
    model.model.config = model.config
    model.tie_weights()
    model.generation_config = packed.generation_config
    return model.to(dtype), AutoTokenizer.from_pretrained(folder, gguf_file=name)


def _with_adapters(model: MiniGeminiForConditionalGeneration, config: TrainConfig, is_empty: bool) -> PeftModel:
    """Add adapters to the language model: new ones, or those of the checkpoint."""
    options = config.train.lora
    pattern = lora_pattern(model, options)
    lora = LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=pattern)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
        )  # peft reads the property
        small = small_folder(config.model)
        if small is not None and not is_empty and (small / ADAPTER_FOLDER).is_dir():
            return _adapters_of(model, small / ADAPTER_FOLDER, lora)
        adapters: Any = get_peft_model(model, lora)
    return adapters


def lora_pattern(model: MiniGeminiForConditionalGeneration, options: LoraOptions) -> str:
    """Return a regular expression for the names of the layers that get an adapter.

    Args:
        model: The model.
        options: Options of the adapters.

    Raises:
        InputError: If there is no such layer.
    """
    names = "|".join(map(re.escape, options.targets))
    pattern = rf"model\.language_model\..*\.({names})"
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not any(re.fullmatch(pattern, name) for name in layers):
        known = sorted({name.rpartition(".")[2] for name in layers if name.startswith("model.language_model.")})
        raise InputError(
            f"train.lora.targets={list(options.targets)} are not linear layers of the language model. "
            f"It has: {', '.join(known)}."
        )
    return pattern


def _adapters_of(model: MiniGeminiForConditionalGeneration, folder: Path, wanted: LoraConfig) -> PeftModel:
    """Add existing adapters to the language model, to train them further."""
    if not (folder / _ADAPTER_FILE).is_file():  # otherwise peft would search the hub
        raise CheckpointError(f"{str(folder)!r} is not an adapter: it has no {_ADAPTER_FILE}. Export the run again.")
    try:
        given: Any = LoraConfig.from_pretrained(str(folder))
        if (given.r, given.lora_alpha) != (wanted.r, wanted.lora_alpha):
            raise CheckpointError(
                f"{str(folder)!r} does not fit the model: its rank is {given.r} and its alpha {given.lora_alpha:g}, "
                f"train.lora has {wanted.r} and {wanted.lora_alpha:g}. Set train.lora to the adapter's values."
            )
        adapters: Any = PeftModel.from_pretrained(model, str(folder), is_trainable=True, config=wanted)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{str(folder)!r} is not an adapter: {error}. Export the run again.") from error
    return adapters


def load_trained(model: MiniGeminiForConditionalGeneration, run: Path) -> None:
    """Load the trained weights of a run into a model.

    Args:
        model: The model.
        run: Folder of the run or of a checkpoint, or the file.

    Raises:
        CheckpointError: If there are no weights, or they do not fit.
    """
    file, weights = _trained_weights(run)
    _put_over(model, weights, file)


def _trained_weights(run: Path) -> tuple[Path, dict[str, Tensor]]:
    """Return the file of a run's weights, and the weights by name."""
    file = next((place for place in (run, run / TRAINED_FILE) if place.is_file()), None)
    if file is None:
        raise CheckpointError(
            f"{str(run)!r} holds no {TRAINED_FILE}. Give the folder of a finished run as model.start_from."
        )
    try:
        return file, load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{str(file)!r} cannot be read: {error}. Run that stage again.") from error


def _put_over(model: MiniGeminiForConditionalGeneration, weights: dict[str, Tensor], file: Path) -> None:
    own: dict[str, Tensor] = dict(model.named_parameters())
    unexpected = sorted(weights.keys() - own.keys())
    mismatched = [
        f"{name}: {tuple(value.shape)}, needed {tuple(own[name].shape)}"
        for name, value in sorted(weights.items())
        if name in own and own[name].shape != value.shape
    ]
    if unexpected or mismatched:
        raise CheckpointError(f"{str(file)!r} does not fit the model.", unexpected=unexpected, mismatched=mismatched)
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def parameter_groups(
    model: nn.Module, *, learning_rate: float, weight_decay: float, multipliers: dict[str, float]
) -> list[dict[str, Any]]:
    """Return the trained parameters as optimizer groups, each with its `base_lr`.

    Args:
        model: The model.
        learning_rate: The peak learning rate.
        weight_decay: Weight decay of matrices.
        multipliers: Factors on the learning rate of parameters whose name contains the key.

    Raises:
        InputError: If no trained parameter's name contains a key.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    unused = set(multipliers)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        keys = [key for key in multipliers if key in name]
        unused -= set(keys)
        factor = multipliers[keys[0]] if keys else 1.0
        decay = weight_decay if len(whole_shape(parameter)) > 1 else 0.0
        groups.setdefault((learning_rate * factor, decay), []).append(parameter)
    if unused:
        raise InputError(
            f"optimizer.multipliers names {sorted(unused)[0]!r}, but no trained parameter's name contains it. "
            f"Use 'mining', 'multi_modal_projector' or 'language_model'."
        )
    return [
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
