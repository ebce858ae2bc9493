"""Whether a configuration and the headers of its weight files can belong together, found out before anything is built.

A model is built at the size that its configuration names, and what the files lack is made of random numbers. So a
broken configuration (empty, without a language model, with a million layers) would fill the memory before the strict
accounting of :mod:`loading` could speak. Here sizes alone are compared; that every key fits is checked later.
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

__all__ = ["check_files", "check_sizes", "is_sound", "read_config", "read_config_dict"]

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
"""Larger JSON files, such as tokenizers, are only checked at both ends: parsing takes as long as loading."""

_MAX_COUNT = 10_000
"""Layers or experts of a model; a configuration lists its layers when it is made."""

_MAX_SURPLUS = 2
"""How many times the numbers in its files a model may have: a tied head is counted twice."""

_MAX_PACKING = 16
"""How many weights one number of a quantized file may hold."""


def check_files(folder: Path) -> None:
    """Check that the JSON files of a folder of transformers are JSON, and that its generation options are valid.

    Args:
        folder: The folder of any model.

    Raises:
        CheckpointError: If one of them is empty, cut off or something else.
    """
    from transformers import GenerationConfig

    for file in (folder / name for name in _JSON_FILES):
        if file.is_file():
            _check_json(file)
    if (folder / "generation_config.json").is_file():
        try:
            GenerationConfig.from_pretrained(folder)
        except Exception as error:  # it raises whatever its values lead to
            raise CheckpointError(
                f"{str(folder / 'generation_config.json')!r} cannot be used: {error} Fetch it anew, or delete it."
            ) from error


def is_sound(folder: Path) -> bool:
    """Return whether a folder of transformers has readable files: a configuration, weights, and what else there is.

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
        raise CheckpointError(f"{str(file)!r} is damaged or half-written. Fetch it anew.")


def read_config_dict(folder: Path) -> dict[str, Any]:
    """Read a `config.json`, in this library's layout or the authors', and check that its parts are objects.

    Args:
        folder: The checkpoint.

    Raises:
        CheckpointError: If it is missing, is no JSON object, or a part is none.
    """
    config = read_json(folder / "config.json")
    if is_official(config):
        return config
    wrong = [name for name in _PARTS if not isinstance(config.get(name, {}), Mapping)]
    if wrong:
        raise CheckpointError(
            f"{str(folder / 'config.json')!r} describes no Mini-Gemini model: {', '.join(wrong)} must be objects. "
            "Fetch or export it anew."
        )
    return config


def read_config(folder: Path, config_dict: Mapping[str, Any]) -> MiniGeminiConfig:
    """Return the configuration that a `config.json` describes.

    Args:
        folder: Where it is from, for messages.
        config_dict: Its content.

    Raises:
        CheckpointError: If it does not describe a model.
    """
    from mgem_agent.core_model.configuration import MiniGeminiConfig

    for name, count in _counts(config_dict):
        if not 0 <= count <= _MAX_COUNT:
            raise CheckpointError(
                f"{str(folder / 'config.json')!r} says {name}={count:,}, and no model has more than {_MAX_COUNT:,}. "
                "Fetch or export it anew."
            )
    try:
        config: MiniGeminiConfig = MiniGeminiConfig.from_dict(dict(config_dict))
    except InputError:
        raise
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{str(folder / 'config.json')!r} does not describe a model: {error}") from error
    return config


def check_sizes(folder: Path, config_dict: Mapping[str, Any], headers: Mapping[str, TensorHeader]) -> None:
    """Compare what a configuration describes with what the files hold.

    Args:
        folder: The checkpoint, for messages.
        config_dict: Content of its `config.json`.
        headers: Headers of its tensors, by name.

    Raises:
        CheckpointError: If the model would have more layers or many more numbers than the files.
    """
    from mgem_agent.core_model.checkpoints.expected import expected_model

    file = folder / "config.json"
    for name, count in _counts(config_dict):
        if not 0 <= count <= len(headers):  # a layer or an expert has a tensor at least
            raise CheckpointError(
                f"{str(file)!r} says {name}={count:,}, and its weight files hold {len(headers):,} tensors in all. They "
                "do not belong together: fetch or export both anew."
            )
    config = read_config(folder, config_dict)
    try:
        expected = expected_model(config, official=False, split=False)
    except (TypeError, ValueError, RuntimeError, AttributeError, ZeroDivisionError, KeyError, IndexError) as error:
        raise CheckpointError(f"{str(file)!r} describes a model that cannot be built: {error}") from error
    needed = sum(math.prod(shape) for shape in expected.values())
    held = sum(header.num_elements for header in headers.values())
    packed = _MAX_PACKING if config_dict.get("quantization_config") else 1
    if needed > held * packed * _MAX_SURPLUS:
        raise CheckpointError(
            f"{str(file)!r} describes a model of {needed:,} numbers, and its weight files hold {held:,}. They do not "
            "belong together: fetch or export both anew."
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
