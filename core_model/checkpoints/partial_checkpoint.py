"""Save and load a model without its language model's weights.

A small model ships this way: encoders, mining, projector and a low-rank adapter take a few megabytes. The language
model is downloaded separately, from where it was published. The folder holds

    config.json, model.safetensors    everything except the language model; weights keep their names from the full model
    adapter/                          the language model's adapter in peft's format, if there is one

It holds no tokenizer, which comes with the language model:
`MiniGeminiProcessor.from_model_config(model.config, tokenizer)`.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, CLIPVisionModel, PreTrainedModel

from mgem_agent.core_model.assembly import join_parts
from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.core_model.high_res_encoder import HighResEncoder
from mgem_agent.errors import CheckpointError

__all__ = [
    "ADAPTER_FOLDER",
    "WEIGHTS_FILE",
    "adapter_factors",
    "lacks_language_model",
    "load_without_language_model",
    "own_weights",
]

ADAPTER_FOLDER = "adapter"
WEIGHTS_FILE = "model.safetensors"
_LANGUAGE_MODEL = ("model.language_model.", "lm_head.")
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


def own_weights(model: MiniGeminiForConditionalGeneration, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return all weights of a model except its language model's, by name.

    Args:
        model: The model.
        dtype: Data type to convert weights to; whole numbers, such as the token ids of a reader, stay as they are.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(_LANGUAGE_MODEL)}
    if dtype is None:
        return own
    return {name: (value.to(dtype) if value.is_floating_point() else value).contiguous() for name, value in own.items()}


def lacks_language_model(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a model without its language model's weights.

    Args:
        folder: Any folder.

    Raises:
        CheckpointError: If its weight file cannot be read.
    """
    file = Path(folder) / WEIGHTS_FILE
    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as weights:
            return not any("language_model." in name for name in weights.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(file)!r} cannot be read: {error}. Export the model again.") from error


def load_without_language_model(
    folder: str | os.PathLike[str],
    language_model: PreTrainedModel | str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    merge: bool = True,
) -> MiniGeminiForConditionalGeneration:
    """Load a model that was saved without its language model's weights.

    Args:
        folder: The folder that `mgem train export --small` wrote.
        language_model: The language model that it was trained with, or its folder or hub id. A module becomes part of
            the model.
        dtype: Data type of the weights; by default that of the language model.
        merge: Whether to merge the adapter into the language model's weights; otherwise it is ignored.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: If the folder is incomplete, or the language model has other sizes than the one trained with.
    """
    path = Path(folder)
    try:
        config = MiniGeminiConfig.from_pretrained(path)
        weights = load_file(path / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a model saved without its language model: {error}. "
            "Make one with: mgem train export --small"
        ) from error
    text: Any = language_model
    if not isinstance(text, PreTrainedModel):
        text = AutoModelForCausalLM.from_pretrained(os.fspath(text), dtype=dtype or "auto")
    _check_sizes(config.text_config, text.config, path)
    vision = CLIPVisionModel(config.vision_config)
    has_high_res = config.high_res_image_size is not None
    high_res_vision = HighResEncoder(config.high_res_vision_config) if has_high_res else None
    kept: torch.dtype = dtype or text.dtype
    model = join_parts(MiniGeminiForConditionalGeneration, config, vision, high_res_vision, text, kept)
    own = own_weights(model)
    mismatched = [
        f"{name}: {tuple(value.shape)}, needed {tuple(own[name].shape)}"
        for name, value in sorted(weights.items())
        if name in own and own[name].shape != value.shape
    ]
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unexpected or mismatched:
        raise CheckpointError(
            f"The weights in {str(path)!r} do not fit its config.json. Export the run again.",
            missing=missing,
            unexpected=unexpected,
            mismatched=mismatched,
        )
    model.load_state_dict(weights, strict=False)
    return _with_adapter(model, path / ADAPTER_FOLDER).eval() if merge else model.eval()


def _with_adapter(model: MiniGeminiForConditionalGeneration, folder: Path) -> MiniGeminiForConditionalGeneration:
    """Merge an adapter into the language model, if there is one."""
    if not folder.is_dir():
        return model
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks it
        adapted: Any = PeftModel.from_pretrained(model, str(folder))
    merged: MiniGeminiForConditionalGeneration = adapted.merge_and_unload()
    return merged


def adapter_factors(folder: str | os.PathLike[str]) -> dict[str, tuple[Tensor, Tensor]] | None:
    """Return the two matrices of each low-rank adapter in a folder of this format, without merging them.

    Args:
        folder: The folder that `mgem train export --small` wrote.

    Returns:
        By the name of a projection in the language model, such as `layers.0.self_attn.q_proj`: (ρ, d), and (n, ρ) times
        the scale. None if the adapter is more than two matrices for each projection, such as DoRA.
    """
    place = Path(folder) / ADAPTER_FOLDER
    if not place.is_dir():
        return {}
    from peft import LoraConfig, PeftConfig
    from peft.utils import load_peft_weights

    config: Any = PeftConfig.from_pretrained(str(place))
    if type(config) is not LoraConfig or config.use_dora or config.rank_pattern or config.alpha_pattern:
        return None
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    weights: dict[str, Tensor] = load_peft_weights(str(place), device="cpu")
    ending = ".lora_A.weight"
    found = {}
    for name, first in weights.items():
        if name.endswith(ending):
            second = weights[name.replace("lora_A", "lora_B")]
            found[name.removesuffix(ending).rpartition("language_model.")[2]] = (first.float(), second.float() * scale)
    return found if 2 * len(found) == len(weights) else None


def _check_sizes(trained: Any, given: Any, path: Path) -> None:
    differing = [
        f"{name}: {getattr(given, name, None)}, trained with {getattr(trained, name, None)}"
        for name in _SIZES
        if getattr(given, name, None) != getattr(trained, name, None)
    ]
    if differing:
        raise CheckpointError(
            f"This is not the language model that {str(path)!r} was trained with. Give that language model.",
            mismatched=differing,
        )
