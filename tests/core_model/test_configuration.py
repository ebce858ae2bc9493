from pathlib import Path

import pytest
from transformers import AutoConfig, CLIPVisionConfig, LlamaConfig

from mgem_agent.core_model import HighResVisionConfig, MiniGeminiConfig
from mgem_agent.errors import GeometryError


def test_defaults_are_those_of_the_released_7b() -> None:
    config = MiniGeminiConfig()
    assert config.geometry.num_image_tokens == 576
    assert config.high_res_vision_config.candidate_dim == 2880
    assert (config.vision_config.num_hidden_layers, config.vision_config.hidden_size) == (24, 1024)


def test_round_trips_through_the_auto_class(tmp_path: Path) -> None:
    config = MiniGeminiConfig(
        text_config={"model_type": "gemma", "hidden_size": 64},
        high_res_vision_config={"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]},
        image_grid=2, image_global=True, high_res_image_size=1536, prompt_template="gemma",
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, MiniGeminiConfig)
    assert loaded.to_dict() == {**config.to_dict(), "_name_or_path": loaded.to_dict().get("_name_or_path")} or (
        loaded.to_diff_dict() == config.to_diff_dict()
    )
    assert isinstance(loaded.high_res_vision_config, HighResVisionConfig)
    assert loaded.geometry == config.geometry


def test_tying_follows_the_language_model_unless_said() -> None:
    assert MiniGeminiConfig(text_config={"model_type": "gemma"}).tie_word_embeddings is True
    assert MiniGeminiConfig(text_config={"model_type": "llama"}).tie_word_embeddings is False
    untied = MiniGeminiConfig(text_config={"model_type": "gemma"}, tie_word_embeddings=False)
    assert untied.text_config.tie_word_embeddings is False


def test_a_changed_part_moves_what_is_derived_from_it() -> None:
    config = MiniGeminiConfig(vision_config=CLIPVisionConfig(image_size=224, patch_size=14), text_config=LlamaConfig())
    assert (config.geometry.num_image_tokens, config.geometry.window_size) == (256, 12)
    config.high_res_image_size = 512
    assert config.geometry.window_size == 8


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(GeometryError, match="Use a multiple of 96 px"):
        MiniGeminiConfig(high_res_image_size=700)
    with pytest.raises(Exception, match=r"expected one of \('pad', 'square'\), got stretch"):
        MiniGeminiConfig(image_aspect_ratio="stretch")
