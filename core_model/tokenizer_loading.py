"""Load the language model's tokenizer; a folder without its files is an error that says which files to add."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mgem_agent.errors import CheckpointError

__all__ = ["has_tokenizer_files", "load_tokenizer"]

_TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")


def has_tokenizer_files(folder: Path) -> bool:
    """Return whether a folder has a tokenizer's vocabulary."""
    return any(next(folder.glob(name), None) for name in _TOKENIZER_FILES)


def load_tokenizer(path: str | os.PathLike[str], **kwargs: Any) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model's folder, or of a hub id.

    Args:
        path: The folder or id.
        **kwargs: Options of `AutoTokenizer.from_pretrained`.

    Raises:
        CheckpointError: If it cannot be loaded, or its files are missing.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, **kwargs)
    except Exception as error:  # the tokenizers library raises plain Exception
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CheckpointError(
            f"The tokenizer of {os.fspath(path)!r} cannot be loaded: {reason} Put its language model's tokenizer files "
            "(tokenizer.json, tokenizer_config.json, or tokenizer.model) into the folder."
        ) from error
    folder = Path(path)
    if folder.is_dir() and not has_tokenizer_files(
        folder
    ):  # some families then build a tokenizer of a few special tokens
        raise CheckpointError(
            f"The tokenizer of {os.fspath(path)!r} has {len(tokenizer)} tokens: its files are missing. Put its "
            "language model's tokenizer files (tokenizer.json, tokenizer_config.json, or tokenizer.model) into "
            "the folder."
        )
    return cast(PreTrainedTokenizerBase, tokenizer)
