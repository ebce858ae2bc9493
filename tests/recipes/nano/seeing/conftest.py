"""A model without its language model, as `mgem train export --small` writes it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mgem_agent.core_model.checkpoints.partial_checkpoint import WEIGHTS_FILE, own_weights
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import load_model


@pytest.fixture
def small_model(tmp_path: Path, encoder_parts) -> Callable[[torch.dtype], Path]:
    """Write it to a folder in a data type."""

    def write(dtype: torch.dtype) -> Path:
        source = ModelConfig(**encoder_parts, prompt_template="chatml", high_res_image_size=128)
        model, _ = load_model(source, torch.float32)
        folder = tmp_path / "small"
        folder.mkdir()
        save_file(own_weights(model, dtype), folder / WEIGHTS_FILE)
        model.config.save_pretrained(folder)
        return folder

    return write
