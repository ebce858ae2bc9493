"""The models that are measured are those that were released."""

from __future__ import annotations

import pytest
import torch

from mgem_agent.core_model.checkpoints.released import find_released
from mgem_agent.recipes.bench.sizes import LanguageModelName, bench_config, build_model, describe_sizes


@pytest.mark.parametrize(("hd", "released"), [(False, "MGM-7B"), (True, "MGM-7B-HD")])
def test_images_have_the_released_sizes(hd: bool, released: str) -> None:
    config, wanted = bench_config(hd=hd), find_released(released)
    assert config.geometry.low_res_input_size == wanted.low_res_size
    assert config.geometry.high_res_size == wanted.high_res_size
    assert config.geometry.num_image_tokens == wanted.num_image_tokens
    assert config.geometry.window_size == 8
    assert (config.vision_config.hidden_size, config.high_res_vision_config.candidate_dim) == (1024, 2880)


@pytest.mark.parametrize(
    ("llm", "family", "width", "layers"),
    [
        ("none", "llama", 64, 1),
        ("smollm2-135m", "llama", 576, 30),
        ("gemma-2b", "gemma", 2048, 18),
        ("vicuna-7b", "llama", 4096, 32),
    ],
)
def test_the_language_model_can_be_chosen(llm: LanguageModelName, family: str, width: int, layers: int) -> None:
    config = bench_config(llm=llm)
    text = config.text_config
    assert (text.model_type, text.hidden_size, text.num_hidden_layers) == (family, width, layers)
    assert config.image_token_id == text.vocab_size


def test_a_small_model_can_be_built() -> None:
    config = bench_config(hd=True, small=True)
    model = build_model(config, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert not model.training
    assert model.dtype == torch.bfloat16
    assert describe_sizes(config) == ("CLIP ViT 64×3, ConvNeXt 240 channels, images 112/256 px, 80 visual tokens")
