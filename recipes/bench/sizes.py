"""Sizes of the measured models: the released ones, and small ones for a quick test.

Chosen by `mgem bench vision --hd`, `--small` and `--llm`. Every released model has CLIP ViT-L/14 at 336 px and
ConvNeXt-L; the HD ones encode four crops and the whole picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.checkpoints.released import find_released

__all__ = ["LanguageModelName", "bench_config", "build_model", "describe_sizes"]

LanguageModelName = Literal["none", "smollm2-135m", "gemma-2b", "vicuna-7b"]

_NARROW: Mapping[str, Any] = MappingProxyType(
    {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 8192,
    }
)
_SMOLLM2_135M: Mapping[str, Any] = MappingProxyType(
    {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
)


def bench_config(*, hd: bool = False, small: bool = False, llm: LanguageModelName = "none") -> MiniGeminiConfig:
    """Return the configuration of a model to measure.

    Args:
        hd: 672/1536 px and 2880 visual tokens instead of 336/768 px and 576.
        small: Narrow encoders and images with a sixth of the side length, for a quick test.
        llm: Language model; "none" is one narrow layer.
    """
    sizes: dict[str, Any] = {"high_res_image_size": 768}
    if small:
        sizes["vision_config"] = {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
        }
        sizes["high_res_vision_config"] = {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 2, 1]}
        sizes["high_res_image_size"] = 128
    if hd:
        sizes |= {"high_res_image_size": 2 * sizes["high_res_image_size"], "image_grid": 2, "image_global": True}
    text_config = _text_config(llm)
    return MiniGeminiConfig(text_config=text_config, image_token_id=text_config["vocab_size"], **sizes)


def _text_config(llm: LanguageModelName) -> dict[str, Any]:
    if llm in ("gemma-2b", "vicuna-7b"):
        released = find_released("MGM-2B" if llm == "gemma-2b" else "MGM-7B")
        return {"model_type": released.family, **released.text_config}
    return dict(_NARROW if llm == "none" else _SMOLLM2_135M)


def build_model(
    config: MiniGeminiConfig, *, device: torch.device, dtype: torch.dtype
) -> MiniGeminiForConditionalGeneration:
    """Make a model with random weights, for inference."""
    model: Any = MiniGeminiForConditionalGeneration(config)
    model.to(device=device, dtype=dtype)
    built: MiniGeminiForConditionalGeneration = model.eval()
    return built


def describe_sizes(config: MiniGeminiConfig) -> str:
    """Describe the sizes of encoders and images."""
    vision, high_res = config.vision_config, config.high_res_vision_config
    return (
        f"CLIP ViT {vision.hidden_size}×{vision.num_hidden_layers}, ConvNeXt {high_res.candidate_dim} channels, "
        f"images {config.geometry.low_res_input_size}/{config.high_res_image_size} px, "
        f"{config.geometry.num_image_tokens} visual tokens"
    )
