"""Build a new model, ready for training, from pretrained parts.

The whole model is built on the meta device, without memory, and each part is inserted unchanged. So memory never holds
the language model twice, and any source of one works, including a GGUF file. Mining and the projector are new and are
initialised as in the authors' code.
"""

from __future__ import annotations

import copy
import os
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM, CLIPVisionModel, PreTrainedModel

from mgem_agent.core_model.checkpoints.loading import clear_idle_sampling, quiet_loading
from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.core_model.high_res_encoder import HighResEncoder
from mgem_agent.core_model.modeling import MiniGeminiPreTrainedModel, build_reader
from mgem_agent.errors import CheckpointError, InputError

__all__ = ["assemble", "join_parts"]

Source = str | os.PathLike[str]

Model = TypeVar("Model", bound=MiniGeminiPreTrainedModel)
"""A class of model with a trunk, `model`, and a head, `lm_head`."""


def assemble(
    model_class: type[Model],
    vision: CLIPVisionModel | Source,
    high_res_vision: HighResEncoder | Source | None,
    text: PreTrainedModel | Source,
    *,
    dtype: torch.dtype | None = None,
    prompt_template: str = "vicuna_v1",
    **config_fields: Any,
) -> Model:
    """Build a model from pretrained encoders, a pretrained language model, and new mining and projector.

    Args:
        model_class: The class of the model.
        vision: The low-resolution encoder, or a folder or hub id of a CLIP model.
        high_res_vision: The high-resolution encoder, or a folder or hub id of an open_clip model with a ConvNeXt.
            None for a model without high resolution and mining.
        text: A causal language model, or a folder or hub id of one.
        dtype: Data type of all parameters; by default that of the language model.
        prompt_template: Name of the dialogue format, one of `prompt_template_names()`.
        **config_fields: More fields of `MiniGeminiConfig`: `image_grid`, `image_global`, `high_res_image_size`, ...

    Returns:
        The model, in evaluation mode. Modules that were passed are now part of it.

    Raises:
        InputError: If a part has a type that the model does not support.
        GeometryError: If the image sizes do not fit together.
        CheckpointError: If files cannot be read, or a part lacks weights.
    """
    language_model = _loaded(text, AutoModelForCausalLM, dtype)
    trunk, _ = _trunk_and_head(language_model)
    dtype = dtype or trunk.dtype
    low_res = _loaded(vision, CLIPVisionModel, dtype)
    if not isinstance(low_res, CLIPVisionModel):
        raise InputError(f"vision must be a CLIPVisionModel, a folder or a hub id, got {type(low_res).__name__!r}.")
    high_res = high_res_vision
    if high_res is not None and not isinstance(high_res, HighResEncoder):
        if isinstance(high_res, nn.Module):
            raise InputError(f"high_res_vision must be a HighResEncoder, got {type(high_res).__name__!r}.")
        high_res = HighResEncoder.from_open_clip(os.fspath(high_res), dtype=dtype)

    fields = {"image_token_id": trunk.config.vocab_size, "prompt_template": prompt_template, **config_fields}
    parts: dict[str, Any] = {"text_config": trunk.config, "vision_config": low_res.config}
    if high_res is None:
        fields["high_res_image_size"] = None
    else:
        parts["high_res_vision_config"] = high_res.config
    config = MiniGeminiConfig(**parts, **fields)
    return join_parts(model_class, config, low_res, high_res, language_model, dtype)


def join_parts(
    model_class: type[Model],
    config: MiniGeminiConfig,
    vision: CLIPVisionModel,
    high_res_vision: HighResEncoder | None,
    language_model: PreTrainedModel,
    dtype: torch.dtype,
) -> Model:
    """Build a model from the given parts; mining and projector are new.

    Args:
        model_class: The class of the model.
        config: Its configuration, whose `text_config` becomes the language model's own.
        vision: The low-resolution encoder.
        high_res_vision: The high-resolution encoder; None for a model without one.
        language_model: A causal language model.
        dtype: Data type of all parameters.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: If the language model is not of the family that the configuration names.
    """
    trunk, head = _trunk_and_head(language_model)
    trunk.config.tie_word_embeddings = head.weight is trunk.get_input_embeddings().weight
    config.text_config, config.tie_word_embeddings = trunk.config, trunk.config.tie_word_embeddings
    config.dtype = dtype
    with torch.device("meta"):
        model: Any = model_class(config)
    _check_kind(trunk, model.model.language_model)
    model.model.vision_tower = vision
    model.model.high_res_vision_tower = high_res_vision
    model.model.language_model = trunk
    model.lm_head = head
    for part in filter(None, (model.model.mining, model.model.multi_modal_projector)):
        _initialise(part, vision.device)
    model.model.reader = build_reader(config)
    model.generation_config = copy.deepcopy(language_model.generation_config)
    clear_idle_sampling(model.generation_config)
    model.model.apply_freezing()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # not the buffers: the angles of rotary embeddings stay float32
    joined: Model = model.eval()
    return joined


def _loaded(source: nn.Module | Source, loader: Any, dtype: torch.dtype | None) -> Any:
    if isinstance(source, nn.Module):
        return source
    path = os.fspath(source)
    options = {"dtype": "auto" if dtype is None else dtype, "ignore_mismatched_sizes": True}
    with quiet_loading():  # a full CLIP also has a text encoder, which is not used
        module, info = loader.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(info["missing_keys"])
    mismatched = [
        f"{key}: {tuple(got)} in the file, {tuple(wanted)} in the model" for key, got, wanted in info["mismatched_keys"]
    ]
    if missing or mismatched:
        raise CheckpointError(
            f"The weights of {path!r} do not fit the {type(module).__name__} that its config.json describes.",
            missing=missing,
            mismatched=mismatched,
        )
    return module


def _trunk_and_head(language_model: Any) -> tuple[PreTrainedModel, nn.Linear]:
    head = language_model.get_output_embeddings() if isinstance(language_model, PreTrainedModel) else None
    trunk = getattr(language_model, "base_model", None)
    if not isinstance(head, nn.Linear) or trunk is language_model or not isinstance(trunk, PreTrainedModel):
        raise InputError(
            f"text must be a causal language model, a folder or a hub id, got {type(language_model).__name__!r}. "
            f"Load it with AutoModelForCausalLM."
        )
    if head.bias is not None:
        raise InputError(
            f"The head of {type(language_model).__name__!r} has a bias, which this model does not support."
        )
    return trunk, head


def _check_kind(trunk: PreTrainedModel, expected: nn.Module) -> None:
    if type(trunk) is not type(expected):
        raise InputError(
            f"The language model is a {type(trunk).__name__!r}; its configuration names a {type(expected).__name__!r}. "
            f"Give a text-only model."
        )


def _initialise(part: nn.Module, device: torch.device) -> None:
    """Move a part off the meta device and fill it with torch's own initial values."""
    part.to_empty(device=device)
    for module in part.modules():
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            module.reset_parameters()
