"""A run's model without its weights: its configuration, its processor, and an empty model on the meta device.

Only configuration and tokenizer files are read, so this takes seconds and little memory for any size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer, CLIPVisionConfig

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.high_res_encoder import high_res_config_from_open_clip
from mgem_agent.errors import InputError, MgemError
from mgem_agent.meta_device import meta_device
from mgem_agent.nano import find_language_model
from mgem_agent.recipes.train.config import ModelConfig, TrainConfig
from mgem_agent.recipes.train.model_setup import (
    NANO,
    PROMPT_TEMPLATE,
    TrainedModel,
    check_places,
    ready_model,
    small_folder,
    with_attention,
)

__all__ = ["empty_model", "load_processor", "outline_run", "read_model_config"]


def read_model_config(source: ModelConfig) -> MiniGeminiConfig:
    """Return the configuration of a run's model.

    Args:
        source: Source of the model.

    Raises:
        InputError: If a configuration file cannot be read.
        GeometryError: If the image sizes do not fit together.
    """
    check_places(source)
    try:
        folder = small_folder(source)
        if source.checkpoint is not None:
            config = MiniGeminiConfig.from_pretrained(source.checkpoint if folder is None else folder)
            config.prompt_template = source.prompt_template or config.prompt_template
            return config
        text: Any = AutoConfig.from_pretrained(**_text_files(str(source.text)))
        fields: dict[str, Any] = {
            "image_token_id": text.vocab_size,
            "prompt_template": source.prompt_template or PROMPT_TEMPLATE,
            "high_res_image_size": source.high_res_image_size if source.has_high_res else None,
            "image_grid": source.image_grid,
            "image_global": source.image_global,
            "tie_word_embeddings": text.tie_word_embeddings,
        }
        return MiniGeminiConfig(
            text_config=text,
            vision_config=CLIPVisionConfig.from_pretrained(str(source.vision)),
            high_res_vision_config=(
                high_res_config_from_open_clip(_open_clip_config(source.high_res_vision))
                if source.high_res_vision is not None
                else None
            ),
            **fields,
        )
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, MgemError):
            raise
        raise InputError(
            f"The configuration files of the model cannot be read: {error}\nGive folders in model.*, or allow the hub; "
            "only configurations of a few kilobytes are read, no weights."
        ) from error


def load_processor(source: ModelConfig) -> MiniGeminiProcessor:
    """Return the processor of a run's model.

    Args:
        source: Source of the model.

    Raises:
        InputError: If a file cannot be read.
    """
    config = read_model_config(source)
    folder = small_folder(source)
    if source.checkpoint is not None and folder is None:
        other = {} if source.prompt_template is None else {"prompt_template": source.prompt_template}
        return MiniGeminiProcessor.from_pretrained(source.checkpoint, **other)
    tokenizer = AutoTokenizer.from_pretrained(**_text_files(source.text or NANO))
    return MiniGeminiProcessor.from_model_config(config, tokenizer)


def empty_model(config: MiniGeminiConfig) -> MiniGeminiForConditionalGeneration:
    """Return a model whose parameters have shapes but no values.

    Args:
        config: Its configuration.
    """
    with meta_device():
        model = MiniGeminiForConditionalGeneration(config)
    model.tie_weights()
    return model


def outline_run(config: TrainConfig) -> TrainedModel:
    """Return the model of a run, ready to be trained, but on the meta device.

    Args:
        config: The run.

    Raises:
        InputError: If a file cannot be read, or no layer of the model can have an adapter.
    """
    model = with_attention(empty_model(read_model_config(config.model)), config.model.attention)
    return ready_model(model, load_processor(config.model), config, None)


def _text_files(source: str) -> dict[str, Any]:
    if source == NANO:
        source = str(find_language_model())
    if not source.endswith(".gguf"):
        return {"pretrained_model_name_or_path": source}
    return {"pretrained_model_name_or_path": str(Path(source).parent), "gguf_file": Path(source).name}


def _open_clip_config(source: str) -> dict[str, Any]:
    name = "open_clip_config.json"
    folder = Path(source) if Path(source).is_dir() else Path(snapshot_download(source, allow_patterns=[name]))
    model: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))["model_cfg"]
    return model
