"""The authors' config.json, recognised and said anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from mgem_agent.core_model import MiniGeminiConfig
from mgem_agent.core_model.checkpoints.official import (
    OFFICIAL_MODEL_TYPES,
    find_family,
    find_prompt_template,
    is_official,
    translate_config,
)
from mgem_agent.core_model.checkpoints.released import RELEASED_CHECKPOINTS, official_config
from mgem_agent.errors import CheckpointError


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"model_type": "mgm"}, "llama"),
        ({"model_type": "mgm_gemma"}, "gemma"),
        ({"model_type": "mini_gemini"}, "llama"),
        ({"model_type": "mini_gemini_mixtral"}, "mixtral"),
        ({"model_type": "llava_uni_mistral"}, "mistral"),
        ({"model_type": "mgm_gemma", "architectures": ["MGMLlamaForCausalLM"]}, "gemma"),
        ({"architectures": ["MiniGeminiMixtralForCausalLM"]}, "mixtral"),
        ({"architectures": ["MGMMistralForCausalLM"]}, "mistral"),
        ({"model_type": "llama", "architectures": ["MGMGemmaForCausalLM"]}, "gemma"),
        ({"num_local_experts": 8, "sliding_window": None}, "mixtral"),
        ({"sliding_window": 4096}, "mistral"),
        ({"vocab_size": 256000}, "gemma"),
        ({"hidden_size": 64, "num_hidden_layers": 2}, "llama"),
    ],
)
def test_the_family_is_told_in_order(config: dict[str, Any], family: str) -> None:
    assert find_family(config) == family


@pytest.mark.parametrize(
    "config", [{"model_type": "mgm_phi"}, {"architectures": ["MGMPhiForCausalLM"], "hidden_size": 8}, {}]
)
def test_an_unknown_family_is_an_error(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_family(config)
    assert str(caught.value) == (
        f"Unknown language model: model_type {config.get('model_type')!r}, architectures "
        f"{config.get('architectures', [])!r}. Known families: gemma, llama, mistral, mixtral. Set 'architectures' in "
        f"config.json, such as ['MGMLlamaForCausalLM']."
    )


def test_what_is_official_and_what_is_ours() -> None:
    assert all(is_official(official_config(released.name)) for released in RELEASED_CHECKPOINTS)
    assert all(is_official({"model_type": name}) for name in OFFICIAL_MODEL_TYPES)
    assert is_official({"model_type": "mini_gemini", "mm_vision_tower": "x"})
    assert is_official({"model_type": "mini_gemini_phi"})
    assert not is_official(MiniGeminiConfig().to_dict())
    assert not is_official({"model_type": "mini_gemini"})
    assert not is_official({"model_type": "mini_gemini_high_res_vision"})
    assert not is_official({"model_type": "llama"})


@pytest.mark.parametrize(
    ("family", "vocab_size", "template"),
    [
        ("gemma", 256000, "gemma"),
        ("mixtral", 32000, "mistral_instruct"),
        ("mistral", 32000, "mistral_instruct"),
        ("llama", 128256, "llama_3"),
        ("llama", 64000, "chatml_direct"),
        ("llama", 32000, "vicuna_v1"),
    ],
)
def test_the_dialogue_format_follows_the_language_model(family: Any, vocab_size: int, template: str) -> None:
    assert find_prompt_template(family, vocab_size) == template


@pytest.mark.parametrize("released", RELEASED_CHECKPOINTS, ids=lambda released: released.name)
def test_each_released_config_is_translated(released: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(official_config(released.name)))
    config = MiniGeminiConfig.from_pretrained(tmp_path)
    assert config.text_config.model_type == released.family
    rope_theta = released.text_config.get("rope_theta", 10000.0)
    for key, value in released.text_config.items():
        if key != "rope_theta":
            assert getattr(config.text_config, key) == value, key
    assert config.text_config.rope_parameters["rope_theta"] == rope_theta
    assert not [key for key in config.text_config.to_dict() if key.startswith(("mm_", "image_", "tune_", "use_mm"))]
    assert config.prompt_template == released.prompt_template
    assert config.image_token_id == released.text_config["vocab_size"]
    assert config.geometry.num_image_tokens == released.num_image_tokens
    assert config.geometry.window_size == 8
    assert config.high_res_vision_config.candidate_dim == 2880
    assert config.tie_word_embeddings == (released.family == "gemma")
    assert str(config.dtype) == "torch.bfloat16"
    assert config.freeze_vision_tower and config.freeze_high_res_vision_tower

    config.save_pretrained(tmp_path / "saved")
    again = MiniGeminiConfig.from_pretrained(tmp_path / "saved")
    assert again.to_dict() == config.to_dict()


def test_auto_config_reads_the_authors_mini_gemini(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**official_config("MGM-8B-HD"), "model_type": "mini_gemini"}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MiniGeminiConfig)
    assert config.prompt_template == "llama_3"
    assert config.geometry.num_image_tokens == 2880


def test_what_is_not_default_is_carried_over() -> None:
    changes = {
        "optimize_vision_tower": True,
        "optimize_vision_tower_aux": True,
        "mm_vision_select_layer": -1,
        "mm_projector_type": "mlp3x_gelu",
        "image_aspect_ratio": "square",
        "mm_vision_tower_aux": "zoo/openclip-convnext-base-w-320",
        "video_grid": -1,
        "aux_img_fold": False,
    }
    translated = translate_config({**official_config("MGM-7B"), **changes})
    assert not translated["freeze_vision_tower"] and not translated["freeze_high_res_vision_tower"]
    assert translated["vision_feature_layer"] == -1
    assert translated["projector_type"] == "mlp3x_gelu"
    assert translated["image_aspect_ratio"] == "square"
    assert translated["high_res_vision_config"]["hidden_sizes"] == [128, 256, 512, 1024]


def test_gemmas_first_name_for_its_activation_is_understood() -> None:
    config = {**official_config("MGM-2B"), "hidden_act": "gelu"}
    assert translate_config(config)["text_config"]["hidden_act"] == "gelu_pytorch_tanh"
    config["hidden_activation"] = "gelu_pytorch_tanh"
    assert translate_config(config)["text_config"]["hidden_act"] == "gelu_pytorch_tanh"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mm_vision_tower_aux": None, "image_size_aux": None},
            "This config.json lacks mm_vision_tower_aux, image_size_aux: it does not describe a Mini-Gemini with two "
            "encoders. Load a plain LLaVA model with transformers' LlavaForConditionalGeneration.",
        ),
        (
            {"mm_vision_select_feature": "cls_patch"},
            "mm_vision_select_feature 'cls_patch' is not supported: mining needs one visual token per patch. "
            "Allowed: 'patch'.",
        ),
        (
            {"mm_use_im_start_end": True},
            "mm_use_im_start_end true is not supported: no released checkpoint puts <im_start> and <im_end> around an "
            "image. Allowed: false.",
        ),
        (
            {"mm_projector_type": "resampler"},
            "Unknown mm_projector_type 'resampler'. Allowed: 'linear', 'identity', 'mlpNx_gelu' with N from 1.",
        ),
    ],
)
def test_what_this_model_does_not_do_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        MiniGeminiConfig.from_dict({**official_config("MGM-7B"), **changes})
    assert str(caught.value) == message
