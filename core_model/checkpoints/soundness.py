"""Check, before a model is built, that a configuration and the headers of its weight files can match.

transformers builds a model at the size in its configuration and fills missing weights with random numbers. So a broken
configuration (empty, without a language model, with a million layers) could exhaust the memory before the strict check
of keys in :mod:`loading`. This module compares sizes only; :mod:`loading` checks each key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from mgem_agent.core_model.checkpoints.files import TensorHeader, find_weight_files, read_headers, read_json
from mgem_agent.core_model.checkpoints.official import is_official
from mgem_agent.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from mgem_agent.core_model.configuration import MiniGeminiConfig

__all__ = ["check_counts", "check_files", "check_sizes", "is_sound", "read_config", "read_config_dict", "surplus"]

_PARTS = ("text_config", "vision_config", "high_res_vision_config")
_COUNTS = ("num_hidden_layers", "num_local_experts", "num_experts", "n_routed_experts")
_JSON_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_MAX_PARSED_BYTES = 1_000_000
"""Of larger JSON files, such as tokenizers, only both ends are checked: parsing takes as long as loading."""

_MAX_COUNT = 10_000
"""Most layers or experts of a model; creating a configuration lists all its layers."""

_MAX_SURPLUS = 2
"""Largest ratio of a model's parameters to those in its files; a tied head counts twice."""

_MAX_PACKING = 16
"""Most weights that one number of a quantized file may hold."""


def check_files(folder: Path) -> None:
    """Check that the JSON files of a transformers folder are valid JSON, and its generation options valid.

    Args:
        folder: The folder of any model.

    Raises:
        CheckpointError: If one of them is empty, truncated or invalid.
    """
    from transformers import GenerationConfig

    for file in (folder / name for name in _JSON_FILES):
        if file.is_file():
            _check_json(file)
    if (folder / "generation_config.json").is_file():
        try:
            GenerationConfig.from_pretrained(folder)
        except Exception as error:  # invalid values raise many kinds of error
            raise CheckpointError(
                f"{str(folder / 'generation_config.json')!r} cannot be used: {error} Download it again, or delete it."
            ) from error


def is_sound(folder: Path) -> bool:
    """Return whether a transformers folder has a configuration and weights, and all its files are readable.

    Args:
        folder: The folder of any model; it may be missing.
    """
    if not (folder / "config.json").is_file():
        return False
    try:
        check_files(folder)
        for file in find_weight_files(folder):
            read_headers(file)
    except CheckpointError:
        return False
    return True


def _check_json(file: Path) -> None:
    if file.stat().st_size <= _MAX_PARSED_BYTES:
        read_json(file)
        return
    with file.open("rb") as content:
        start = content.read(64)
        content.seek(-64, 2)
        end = content.read()
    if not start.lstrip().startswith(b"{") or not end.rstrip().endswith(b"}"):
        raise CheckpointError(f"{str(file)!r} is damaged or incomplete. Download it again.")


def read_config_dict(folder: Path) -> dict[str, Any]:
    """Read a `config.json`, in this library's layout or the authors', and check that its sections are objects.

    Args:
        folder: The checkpoint.

    Raises:
        CheckpointError: If it is missing, or it or a section is not a JSON object.
    """
    config = read_json(folder / "config.json")
    if is_official(config):
        return config
    wrong = [name for name in _PARTS if not isinstance(config.get(name, {}), Mapping)]
    if wrong:
        raise CheckpointError(
            f"{str(folder / 'config.json')!r} does not describe a Mini-Gemini model: {', '.join(wrong)} must be "
            "objects. Download or export it again."
        )
    return config


def read_config(folder: Path, config_dict: Mapping[str, Any]) -> MiniGeminiConfig:
    """Return the configuration that a `config.json` describes.

    Args:
        folder: Its folder, for messages.
        config_dict: Its content.

    Raises:
        CheckpointError: If it does not describe a model.
    """
    from mgem_agent.core_model.configuration import MiniGeminiConfig

    for name, count in _counts(config_dict):
        if not 0 <= count <= _MAX_COUNT:
            raise CheckpointError(
                f"{str(folder / 'config.json')!r} sets {name}={count:,}; allowed: 0 to {_MAX_COUNT:,}. "
                "Download or export it again."
            )
    try:
        config: MiniGeminiConfig = MiniGeminiConfig.from_dict(dict(config_dict))
    except InputError:
        raise
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{str(folder / 'config.json')!r} does not describe a model: {error}") from error
    return config


def check_sizes(folder: Path, config_dict: Mapping[str, Any], headers: Mapping[str, TensorHeader]) -> None:
    """Compare the sizes in a configuration with those of the weight files.

    Args:
        folder: The checkpoint, for messages.
        config_dict: Content of its `config.json`.
        headers: Headers of its tensors, by name.

    Raises:
        CheckpointError: If the model would have more layers or many more parameters than the files.
    """
    check_counts(folder, config_dict, headers)
    if message := surplus(folder, config_dict, headers):
        raise CheckpointError(message)


def check_counts(folder: Path, config_dict: Mapping[str, Any], headers: Mapping[str, TensorHeader]) -> None:
    """Compare the counts of layers and experts with the number of tensors, before anything is built.

    Args:
        folder: The checkpoint, for messages.
        config_dict: Content of its `config.json`.
        headers: Headers of its tensors, by name.

    Raises:
        CheckpointError: If there are more layers or experts than tensors.
    """
    for name, count in _counts(config_dict):
        if not 0 <= count <= len(headers):  # a layer or an expert has at least one tensor
            raise CheckpointError(
                f"{str(folder / 'config.json')!r} sets {name}={count:,}, but its weight files hold only "
                f"{len(headers):,} tensors. The two do not match: download or export both again."
            )


def surplus(folder: Path, config_dict: Mapping[str, Any], headers: Mapping[str, TensorHeader]) -> str | None:
    """Say that a model would have many more parameters than its weight files, or return None.

    Args:
        folder: The checkpoint, for messages.
        config_dict: Content of its `config.json`, whose counts were checked.
        headers: Headers of its tensors, by name.

    Raises:
        CheckpointError: If the configuration describes a model that cannot be built.
    """
    from mgem_agent.core_model.checkpoints.expected import expected_model

    file = folder / "config.json"
    config = read_config(folder, config_dict)
    try:
        expected = expected_model(config, official=False, split=False)
    except (TypeError, ValueError, RuntimeError, AttributeError, ZeroDivisionError, KeyError, IndexError) as error:
        raise CheckpointError(f"{str(file)!r} describes a model that cannot be built: {error}") from error
    needed = sum(math.prod(shape) for shape in expected.values())
    held = sum(header.num_elements for header in headers.values())
    packed = _MAX_PACKING if config_dict.get("quantization_config") else 1
    if needed <= held * packed * _MAX_SURPLUS:
        return None
    return (
        f"{str(file)!r} describes a model of {needed:,} parameters, but its weight files hold {held:,}. The two "
        "do not match: download or export both again."
    )


def _counts(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the counts of layers and experts that a configuration names, with their names."""
    for name, value in config.items():
        where = f"{path}{name}"
        if isinstance(value, Mapping):
            yield from _counts(value, f"{where}.")
        elif name in _COUNTS and isinstance(value, int):
            yield where, value
        elif name == "depths" and isinstance(value, list) and all(isinstance(depth, int) for depth in value):
            yield where, sum(value)
