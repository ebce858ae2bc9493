"""Recognise the authors' ``config.json`` and translate it to [`MiniGeminiConfig`].

The authors write one flat file: the language model's keys, plus ``mm_…`` and ``image_…`` keys for their additions. Over
time they used three sets of names for ``model_type``, and some files lack it. So the family of the language model is
looked up in this order: ``model_type``, ``architectures``, the language model's own fields. Our own files also use the
name ``mini_gemini``; only the authors' files have ``mm_vision_tower``.

transformers is imported in functions: its Auto classes import our configuration, which imports this module.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from mgem_agent.core_model.checkpoints.released import Family
from mgem_agent.core_model.checkpoints.towers import high_res_tower_config, vision_tower_config
from mgem_agent.errors import CheckpointError

__all__ = ["OFFICIAL_MODEL_TYPES", "is_official", "translate_config"]

_PREFIXES = ("mgm", "mini_gemini", "llava_uni")
_SUFFIXES: Mapping[str, Family] = {"": "llama", "_gemma": "gemma", "_mixtral": "mixtral", "_mistral": "mistral"}
_MODEL_TYPES: Mapping[str, Family] = {
    prefix + suffix: family for prefix in _PREFIXES for suffix, family in _SUFFIXES.items()
}

OFFICIAL_MODEL_TYPES: tuple[str, ...] = tuple(name for name in _MODEL_TYPES if name != "mini_gemini")
"""Every ``model_type`` in the authors' files, except the one that ours also use."""

# Mixtral before Mistral, for names that contain both.
_ARCHITECTURES: tuple[tuple[str, Family], ...] = (
    ("gemma", "gemma"),
    ("mixtral", "mixtral"),
    ("mistral", "mistral"),
    ("llama", "llama"),
)

_OTHERS_TYPE = re.compile(r"(mgm|llava_uni|mini_gemini)_(?!high_res_vision$)\w+")
_PROJECTOR_TYPE = re.compile(r"linear|identity|mlp[1-9]\d*x_gelu")


def is_official(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is in any version of the authors' layout.

    Args:
        config: The file's content.
    """
    if "text_config" in config or "vision_config" in config:
        return False
    model_type = str(config.get("model_type") or "")
    return "mm_vision_tower" in config or model_type in OFFICIAL_MODEL_TYPES or bool(_OTHERS_TYPE.fullmatch(model_type))


def find_family(config: Mapping[str, Any]) -> Family:
    """Return the family of the language model of an official configuration.

    Raises:
        CheckpointError: If it names no family, or one that no released checkpoint has.
    """
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in _MODEL_TYPES:
        return _MODEL_TYPES[model_type]
    architectures = [str(name) for name in config.get("architectures") or ()]
    for mark, family in _ARCHITECTURES:
        if any(mark in name.lower() for name in architectures):
            return family
    if not model_type and not architectures:
        family_by_fields = _family_by_fields(config)
        if family_by_fields:
            return family_by_fields
    raise CheckpointError(
        f"Unknown language model: model_type {model_type!r}, architectures {architectures!r}. Known families: "
        f"{', '.join(sorted(set(_SUFFIXES.values())))}. Set 'architectures' in config.json, such as "
        f"['MGMLlamaForCausalLM']."
    )


def _family_by_fields(config: Mapping[str, Any]) -> Family | None:
    if "num_local_experts" in config:
        return "mixtral"
    if "sliding_window" in config:
        return "mistral"
    if "hidden_activation" in config or config.get("vocab_size") == 256000:
        return "gemma"
    if "num_hidden_layers" in config and "hidden_size" in config:
        return "llama"
    return None


def find_prompt_template(family: Family, vocab_size: int) -> str:
    """Name of the dialogue format that the authors trained a family with.

    Args:
        family: Family of the language model.
        vocab_size: Size of its vocabulary, which distinguishes the LLaMA-like ones.
    """
    if family == "gemma":
        return "gemma"
    if family in ("mistral", "mixtral"):
        return "mistral_instruct"
    return {128256: "llama_3", 64000: "chatml_direct"}.get(vocab_size, "vicuna_v1")


def translate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate an official ``config.json`` to keyword arguments of [`MiniGeminiConfig`].

    Args:
        config: The file's content, for which [`is_official`] is true.

    Raises:
        CheckpointError: If the language model or an encoder is unknown, or the file needs a feature that this model
            does not have.
    """
    from transformers import CONFIG_MAPPING

    _refuse_unsupported(config)
    family = find_family(config)
    text_config = _text_config(config, family)
    vocab_size = int(text_config.get("vocab_size", CONFIG_MAPPING[family]().vocab_size))
    translated: dict[str, Any] = {
        "model_type": "mini_gemini",
        "text_config": text_config,
        "vision_config": vision_tower_config(str(config["mm_vision_tower"])),
        "high_res_vision_config": high_res_tower_config(str(config["mm_vision_tower_aux"])),
        "image_token_id": vocab_size,
        "high_res_image_size": int(config["image_size_aux"]),
        "image_grid": int(config.get("image_grid") or 1),
        "image_global": bool(config.get("image_global", False)),
        "vision_feature_layer": int(config.get("mm_vision_select_layer", -2)),
        "projector_type": config.get("mm_projector_type", "linear"),
        "image_aspect_ratio": "pad" if config.get("image_aspect_ratio") == "pad" else "square",
        "prompt_template": find_prompt_template(family, vocab_size),
        "freeze_vision_tower": not config.get("optimize_vision_tower", False),
        "freeze_high_res_vision_tower": not config.get("optimize_vision_tower_aux", False),
    }
    dtype = config.get("dtype", config.get("torch_dtype"))
    if dtype is not None:
        translated["dtype"] = dtype
    return translated


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    missing = [key for key in ("mm_vision_tower", "mm_vision_tower_aux", "image_size_aux") if not config.get(key)]
    if missing:
        raise CheckpointError(
            f"This config.json lacks {', '.join(missing)}: it does not describe a Mini-Gemini with two encoders. "
            f"Load a plain LLaVA model with transformers' LlavaForConditionalGeneration."
        )
    feature = config.get("mm_vision_select_feature", "patch")
    if feature != "patch":
        raise CheckpointError(
            f"mm_vision_select_feature {feature!r} is not supported: mining needs one visual token per patch. Allowed: "
            "'patch'."
        )
    if config.get("mm_use_im_start_end"):
        raise CheckpointError(
            "mm_use_im_start_end true is not supported: no released checkpoint puts <im_start> and <im_end> around an "
            "image. Allowed: false."
        )
    projector_type = config.get("mm_projector_type", "linear")
    if not _PROJECTOR_TYPE.fullmatch(str(projector_type)):
        raise CheckpointError(
            f"Unknown mm_projector_type {projector_type!r}. Allowed: 'linear', 'identity', 'mlpNx_gelu' with N from 1."
        )


def _text_config(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The language model's own keys, without the authors' additions."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    general = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    own = {field.name for field in dataclasses.fields(CONFIG_MAPPING[family])} - general
    own |= {"rope_theta", "rope_scaling"}  # older names of rope_parameters, which transformers still reads
    text_config = {key: value for key, value in config.items() if key in own}
    if family == "gemma" and text_config.get("hidden_act", "gelu") == "gelu":
        # Gemma's first files said "gelu" and meant its tanh form.
        text_config["hidden_act"] = config.get("hidden_activation") or "gelu_pytorch_tanh"
    return {"model_type": family, **text_config}
