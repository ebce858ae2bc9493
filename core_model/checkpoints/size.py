"""What a checkpoint takes in memory, part by part, from the headers of its files.

Nothing is loaded or downloaded: a hub id counts if it is in the local cache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mgem_agent.core_model.checkpoints.cache import find_folder
from mgem_agent.core_model.checkpoints.files import TensorHeader, find_weight_files, read_headers
from mgem_agent.core_model.checkpoints.keys import to_our_key
from mgem_agent.core_model.checkpoints.soundness import read_config, read_config_dict
from mgem_agent.core_model.configuration import MiniGeminiConfig, head_channels
from mgem_agent.core_model.context import max_context
from mgem_agent.core_model.quantization import loading_options
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.errors import MgemError

__all__ = ["checkpoint_size"]

_PARTS: Mapping[str, str] = {
    "model.vision_tower.": "vision encoder",
    "model.high_res_vision_tower.": "high-resolution encoder",
    "model.mining.": "mining",
    "model.multi_modal_projector.": "projector",
    "model.reader.": "reader",
    "lm_head.": "head",
}
_LANGUAGE_MODEL = "language model"
_MAX_CACHED_TOKENS = 4096
"""Tokens of the dialogue for which working memory is estimated, if the context allows so many."""
_BYTES_PER_WEIGHT = {8: 1.0, 4: 0.5625}
"""In 4 bits, 32 bits for each block of 64 weights come on top."""


def checkpoint_size(path: str | Path, options: Mapping[str, Any] | None = None) -> ModelSize | None:
    """Return what a model needs on its device.

    Args:
        path: Folder or hub id.
        options: Options of `from_pretrained`: `dtype` (by default the best of the device), `device_map` and
            `quantization_config`.

    Returns:
        The size; None if its files are not on this machine, or cannot be read.
    """
    try:
        folder = find_folder(path)
        config = read_config(folder, read_config_dict(folder))
        headers: dict[str, TensorHeader] = {}
        for file in find_weight_files(folder):
            headers |= read_headers(file)
    except MgemError:
        return None
    chosen = loading_options(options or {})
    named = (chosen["dtype"], config.dtype)  # as `auto`, a name or a dtype
    dtype = next((each for each in named if isinstance(each, torch.dtype)), torch.float32)
    bits = _bits(chosen.get("quantization_config"))
    parts: Counter[str] = Counter()
    for key, header in headers.items():
        part = _part_of(key)
        if not header.dtype.is_floating_point:
            parts[part] += header.num_bytes
        elif bits is not None and part == _LANGUAGE_MODEL and len(header.shape) == 2 and "embed_tokens" not in key:
            parts[part] += math.ceil(header.num_elements * _BYTES_PER_WEIGHT[bits])
        else:
            parts[part] += header.num_elements * dtype.itemsize
    if config.tie_word_embeddings:
        del parts["head"]
    return ModelSize(dict(parts), _cache_bytes(config, dtype.itemsize))


def _part_of(key: str) -> str:
    name = to_our_key(key)
    return next((part for prefix, part in _PARTS.items() if name.startswith(prefix)), _LANGUAGE_MODEL)


def _bits(quantization: Any) -> int | None:
    """Return the bits per weight of a quantization configuration; None for none."""
    if quantization is None:
        return None
    values = quantization if isinstance(quantization, Mapping) else vars(quantization)
    return 4 if any("4bit" in name and value is True for name, value in values.items()) else 8


def _cache_bytes(config: MiniGeminiConfig, itemsize: int) -> int:
    """Return the bytes of keys and values of one long dialogue."""
    text = config.text_config
    num_tokens = min(max_context(config) or _MAX_CACHED_TOKENS, _MAX_CACHED_TOKENS)
    num_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return int(2 * text.num_hidden_layers * num_heads * head_channels(text) * num_tokens * itemsize)
