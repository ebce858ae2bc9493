"""The eleven checkpoints that the authors of Mini-Gemini released, as a table.

All of them use CLIP ViT-L/14 at 336 px and open_clip's ConvNeXt-L; they differ in the language model and the image
sizes. The HD models see four crops and the full picture: 2880 visual tokens instead of 576. The language models' sizes
come from their public configurations. This module imports only the standard library, so that a listing is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from mgem_agent.errors import CheckpointError

__all__ = ["RELEASED_CHECKPOINTS", "Family", "ReleasedCheckpoint", "find_released", "official_config"]

Family = Literal["llama", "gemma", "mistral", "mixtral"]
"""Family of the language model, by the ``model_type`` of transformers."""

_VISION_TOWER = "model_zoo/OpenAI/clip-vit-large-patch14-336"
_HIGH_RES_VISION_TOWER = "model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"


@dataclass(frozen=True)
class _LanguageModel:
    """A base language model: its hub id, family, dialogue format and full-size configuration."""

    hub_id: str
    family: Family
    prompt_template: str
    architecture: str
    text_config: Mapping[str, Any]
    model_type: str | None = None


def _llama(**sizes: Any) -> Mapping[str, Any]:
    common = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": False}
    return MappingProxyType(common | sizes)


_GEMMA_2B = _LanguageModel(
    "google/gemma-2b-it",
    "gemma",
    "gemma",
    "MiniGeminiGemmaForCausalLM",
    MappingProxyType(
        {
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "vocab_size": 256000,
            "max_position_embeddings": 8192,
            "hidden_act": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "initializer_range": 0.02,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }
    ),
)
_VICUNA_7B = _LanguageModel(
    "lmsys/vicuna-7b-v1.5",
    "llama",
    "vicuna_v1",
    "MiniGeminiLlamaForCausalLM",
    _llama(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        vocab_size=32000,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
)
_VICUNA_13B = _LanguageModel(
    "lmsys/vicuna-13b-v1.5",
    "llama",
    "vicuna_v1",
    "MiniGeminiLlamaForCausalLM",
    _llama(
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=40,
        vocab_size=32000,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
)
_LLAMA_3_8B = _LanguageModel(
    "meta-llama/Meta-Llama-3-8B-Instruct",
    "llama",
    "llama_3",
    "MGMLlamaForCausalLM",
    _llama(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
        rope_theta=500000.0,
        bos_token_id=128000,
        eos_token_id=128009,
    ),
    model_type="mgm",
)
_MIXTRAL_8X7B = _LanguageModel(
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "mixtral",
    "mistral_instruct",
    "MiniGeminiMixtralForCausalLM",
    _llama(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=32000,
        max_position_embeddings=32768,
        rope_theta=1000000.0,
        num_local_experts=8,
        num_experts_per_tok=2,
        router_aux_loss_coef=0.02,
        bos_token_id=1,
        eos_token_id=2,
    ),
)
_YI_34B = _LanguageModel(
    "NousResearch/Nous-Hermes-2-Yi-34B",
    "llama",
    "chatml_direct",
    "MiniGeminiLlamaForCausalLM",
    _llama(
        hidden_size=7168,
        intermediate_size=20480,
        num_hidden_layers=60,
        num_attention_heads=56,
        num_key_value_heads=8,
        vocab_size=64000,
        max_position_embeddings=4096,
        rope_theta=5000000.0,
        bos_token_id=1,
        eos_token_id=7,
        pad_token_id=0,
    ),
)


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """One released checkpoint.

    Args:
        name: Short name, such as ``MGM-7B-HD``.
        language_model: Hub id of the base language model.
        family: Family of the language model.
        prompt_template: Dialogue format that it was trained with.
        text_config: The language model's configuration at full size.
        high_definition: Whether it sees four crops and the full picture.
    """

    name: str
    language_model: str
    family: Family
    prompt_template: str
    text_config: Mapping[str, Any]
    high_definition: bool

    @property
    def hub_id(self) -> str:
        """Its hub id."""
        return f"YanweiLi/{self.name}"

    @property
    def low_res_size(self) -> int:
        """Side of the image that the low-resolution path takes, in pixels."""
        return 672 if self.high_definition else 336

    @property
    def high_res_size(self) -> int:
        """Side of the image that the high-resolution encoder takes, in pixels."""
        return 1536 if self.high_definition else 768

    @property
    def num_image_tokens(self) -> int:
        """Visual tokens of one picture."""
        return 2880 if self.high_definition else 576


_BASES: Mapping[str, _LanguageModel] = MappingProxyType(
    {
        "MGM-2B": _GEMMA_2B,
        "MGM-7B": _VICUNA_7B,
        "MGM-13B": _VICUNA_13B,
        "MGM-8B": _LLAMA_3_8B,
        "MGM-8x7B": _MIXTRAL_8X7B,
        "MGM-34B": _YI_34B,
        "MGM-7B-HD": _VICUNA_7B,
        "MGM-13B-HD": _VICUNA_13B,
        "MGM-8B-HD": _LLAMA_3_8B,
        "MGM-8x7B-HD": _MIXTRAL_8X7B,
        "MGM-34B-HD": _YI_34B,
    }
)

RELEASED_CHECKPOINTS: tuple[ReleasedCheckpoint, ...] = tuple(
    ReleasedCheckpoint(name, base.hub_id, base.family, base.prompt_template, base.text_config, name.endswith("-HD"))
    for name, base in _BASES.items()
)
"""All released checkpoints, in the authors' order. There is no MGM-2B-HD."""


def find_released(name: str) -> ReleasedCheckpoint:
    """Look up a checkpoint by its name or hub id; case is ignored.

    Raises:
        CheckpointError: If there is no checkpoint of that name.
    """
    wanted = name.removeprefix("YanweiLi/").lower()
    for released in RELEASED_CHECKPOINTS:
        if released.name.lower() == wanted:
            return released
    known = ", ".join(released.name for released in RELEASED_CHECKPOINTS)
    raise CheckpointError(f"No released checkpoint {name!r}. Released: {known}. Run: mgem models list")


def official_config(name: str) -> dict[str, Any]:
    """Reconstruct the ``config.json`` of a released checkpoint, in the authors' layout.

    It combines the base model's public configuration with the keys that the authors' code writes. It is not a copy of
    the published file; the key ``_reconstructed`` marks it.

    Args:
        name: A name or hub id, such as ``MGM-7B``.

    Raises:
        CheckpointError: If there is no checkpoint of that name.
    """
    released = find_released(name)
    base = _BASES[released.name]
    config: dict[str, Any] = {
        "_reconstructed": True,
        "architectures": [base.architecture],
        **base.text_config,
        "attention_dropout": 0.0,
        "use_cache": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.36.2",
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "image_global": released.high_definition,
        "image_grid": 2 if released.high_definition else 1,
        "image_grid_pinpoints": None,
        "image_size_aux": released.high_res_size,
        "mm_hidden_size": 1024,
        "mm_hidden_size_aux": 2880,
        "mm_projector_lr": None,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": _VISION_TOWER,
        "mm_vision_tower_aux": _HIGH_RES_VISION_TOWER,
        "optimize_vision_tower": False,
        "optimize_vision_tower_aux": False,
        "tokenizer_model_max_length": 4096 if released.high_definition else 2048,
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    }
    if base.model_type is not None:
        config["model_type"] = base.model_type
    return config
