"""Writing a trained pipeline as a folder that `NanoGenerator` and diffusers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mgem_agent.nano.drawing import VOCABULARY_FILE, NanoDrawing
from mgem_agent.recipes.nano.drawing.vocabulary import write_vocabulary

__all__ = ["export_pipeline"]

_UNTIDY = {"": ("_name_or_path",), "AutoencoderTiny": ("_name_or_path", "block_out_channels")}
"""Keys to remove, by class: local paths, and a key that `AutoencoderTiny` writes and warns of when loaded."""


def export_pipeline(pipeline: Any, folder: Path, drawing: NanoDrawing) -> Path:
    """Write a pipeline in float16, the settings of drawing, and the vocabulary.

    Args:
        pipeline: A diffusers pipeline; it becomes float16.
        folder: The folder to write.
        drawing: How the weights draw.

    Returns:
        The folder.
    """
    pipeline.to(torch.float16).save_pretrained(folder)
    for file in (folder / "model_index.json", *folder.glob("*/config.json")):
        written = json.loads(file.read_text(encoding="utf-8"))
        untidy = _UNTIDY.get(written.get("_class_name", ""), _UNTIDY[""])
        kept = {key: value for key, value in written.items() if key not in untidy}
        file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    for file in (folder / "model_index.json", folder / "tokenizer" / "tokenizer_config.json"):
        named = file.read_text(encoding="utf-8")  # every transformers release has the older name
        file.write_text(named.replace("TokenizersBackend", "PreTrainedTokenizerFast"), encoding="utf-8")
    (folder / "nano.json").write_text(drawing.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_vocabulary(folder / VOCABULARY_FILE)
    return folder
