"""A model from its configuration files alone: parts, a checkpoint, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_outline import empty_model, load_processor, read_model_config
from mgem_agent.recipes.train.model_setup import load_model


def test_parts_give_the_model_that_they_would_build(encoder_parts: dict[str, str]) -> None:
    import torch

    source = ModelConfig(**encoder_parts, high_res_image_size=128)
    model, processor = load_model(source, torch.float32)
    outline = empty_model(read_model_config(source))
    assert {name: value.shape for name, value in outline.named_parameters()} == {
        name: value.shape for name, value in model.named_parameters()
    }
    own = load_processor(source)
    assert (own.num_image_tokens, own.image_token_id) == (processor.num_image_tokens, processor.image_token_id)
    assert own.prompt_template == processor.prompt_template


def test_a_checkpoint_keeps_its_processor(model_folder: Path) -> None:
    source = ModelConfig(checkpoint=str(model_folder), prompt_template="gemma")
    assert read_model_config(source).prompt_template == "gemma"
    assert load_processor(source).prompt_template == "gemma"
    assert load_processor(ModelConfig(checkpoint=str(model_folder))).prompt_template == "chatml"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    source = ModelConfig(vision=str(tmp_path), high_res_vision=str(tmp_path), text=str(tmp_path))
    with pytest.raises(InputError, match=r"configuration files of the model cannot be read(.|\n)*no weights"):
        read_model_config(source)
