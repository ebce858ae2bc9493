"""A model without its language model's weights, and its being put together with them again.

This is how a small model ships: encoders, mining, projector and a low-rank adapter are a few megabytes; the language
model, which everyone can have from where it was published, is fetched separately.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, CLIPVisionModel, PreTrainedModel

from mgem_agent.core_model import HighResEncoder, MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.errors import CheckpointError

__all__ = ["ADAPTER_FOLDER", "load_without_llm", "own_weights"]

ADAPTER_FOLDER = "adapter"
_LANGUAGE_MODEL = ("model.language_model.", "lm_head.")
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def own_weights(model: MiniGeminiForConditionalGeneration) -> dict[str, Tensor]:
    """Return all weights of a model but its language model's, by name.

    Args:
        model: The model.
    """
    return {name: value for name, value in model.state_dict().items() if not name.startswith(_LANGUAGE_MODEL)}


def load_without_llm(
    folder: str | os.PathLike[str],
    llm: PreTrainedModel | str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
) -> MiniGeminiForConditionalGeneration:
    """Put a model together from a folder that holds everything but the language model's own weights, and these.

    Args:
        folder: What `export_without_llm` wrote.
        llm: The language model that it was trained with, or its folder or hub id. A module becomes part of the model.
        dtype: Data type of the weights; by default that of the language model.

    Returns:
        The model in evaluation mode, the adapter merged into the language model's weights.

    Raises:
        CheckpointError: If the folder is not whole, or the language model is of other sizes than the one trained with.
    """
    path = Path(folder)
    try:
        config = MiniGeminiConfig.from_pretrained(path)
        weights = load_file(path / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{str(path)!r} is no model without its language model: {error}. Make one with: mgem train export --small"
        ) from error
    if not isinstance(llm, PreTrainedModel):
        llm = AutoModelForCausalLM.from_pretrained(os.fspath(llm), dtype=dtype or "auto")
    _check_sizes(config.text_config, llm.config, path)
    fields = ("high_res_image_size", "image_grid", "image_global", "vision_feature_layer", "projector_type")
    kept = {name: getattr(config, name) for name in (*fields, "image_aspect_ratio", "image_token_id")}
    model = MiniGeminiForConditionalGeneration.from_vision_text_pretrained(
        CLIPVisionModel(config.vision_config),
        HighResEncoder(config.high_res_vision_config),
        llm,
        dtype=dtype,
        prompt_template=config.prompt_template,
        **kept,
    )
    own = own_weights(model)
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"The weights in {str(path)!r} do not fit its config.json.", missing=missing, unexpected=unexpected
        )
    model.load_state_dict(weights, strict=False)
    if (path / ADAPTER_FOLDER).is_dir():
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
            )  # peft asks it
            adapted: Any = PeftModel.from_pretrained(model, str(path / ADAPTER_FOLDER))
        model = adapted.merge_and_unload()
    return model.eval()


def _check_sizes(trained: Any, given: Any, path: Path) -> None:
    differing = [
        f"{name}: {getattr(given, name, None)}, trained with {getattr(trained, name, None)}"
        for name in _SIZES
        if getattr(given, name, None) != getattr(trained, name, None)
    ]
    if differing:
        raise CheckpointError(
            f"The language model is not the one that {str(path)!r} was trained with.", mismatched=differing
        )
