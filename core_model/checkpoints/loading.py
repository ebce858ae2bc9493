"""Load weights in our layout or the authors', with every key accounted for.

transformers loads the weights. This module renames keys and raises an error if a key is missing, unexpected or
mismatched, so that no model is left partly random. If a file stores a separate head for a tied model, the head stays
separate only if it differs from the embedding.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mgem_agent.core_model.checkpoints.files import TensorHeader, find_weight_files, read_headers
from mgem_agent.core_model.checkpoints.keys import is_harmless_leftover, key_mapping
from mgem_agent.core_model.checkpoints.soundness import check_files, check_sizes, read_config_dict
from mgem_agent.core_model.quantization import protect_vision
from mgem_agent.deferred_imports import deferred_imports
from mgem_agent.errors import CheckpointError
from mgem_agent.meta_device import without_meta_values

__all__ = ["clear_idle_sampling", "load_pretrained", "quiet_loading"]

logger = logging.getLogger(__name__)

_OTHER_LAYOUTS = ("adapter_config.json", "shard-*-model-*.safetensors")
"""Files that identify an adapter or a distributed checkpoint, which transformers locates itself."""

_SAMPLING_OPTIONS = ("temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def load_pretrained(cls: type[Any], parent: Callable[..., Any], path: Any, *args: Any, **kwargs: Any) -> Any:
    """Run ``cls.from_pretrained`` strictly, for folders and hub ids in either layout.

    Args:
        cls: The model class.
        parent: transformers' own ``from_pretrained``, bound to the class.
        path: Folder or hub id; None where a `state_dict` is given.
        *args: Passed on.
        **kwargs: Passed on. `key_mapping` is extended; `ignore_mismatched_sizes` and `output_loading_info` work as in
            transformers; a `quantization_config` applies to the language model only.

    Returns:
        The model; with `output_loading_info`, the model and its missing, unexpected and mismatched keys.

    Raises:
        CheckpointError: If a file cannot be read, or a key is missing, unexpected or mismatched.
    """
    wants_info = kwargs.pop("output_loading_info", False)
    allows_mismatch = kwargs.pop("ignore_mismatched_sizes", False)
    kwargs["quantization_config"] = protect_vision(kwargs.get("quantization_config"))
    renaming = key_mapping()
    kwargs["key_mapping"] = {**renaming, **(kwargs.get("key_mapping") or {})}
    if path is not None and Path(path).is_dir() and not kwargs.get("gguf_file"):
        _check_files(Path(path) / kwargs.get("subfolder", ""), kwargs)
    with quiet_loading(show_report=allows_mismatch), _clear_errors(path), deferred_imports(), without_meta_values():
        model, info = parent(path, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    _account_for(cls, path, info, allows_mismatch)
    _forget_renaming(model, renaming)
    _settle_head(model)
    clear_idle_sampling(getattr(model, "generation_config", None))
    return (model, info) if wants_info else model


def _check_files(folder: Path, kwargs: dict[str, Any]) -> None:
    """Read every header before building a model: report a broken file early, and absurd sizes before using memory."""
    if any(file for pattern in _OTHER_LAYOUTS for file in folder.glob(pattern)):
        return
    check_files(folder)
    config_dict = read_config_dict(folder) if kwargs.get("config") is None else None
    headers: dict[str, TensorHeader] = {}
    for file in find_weight_files(folder, variant=kwargs.get("variant"), use_safetensors=kwargs.get("use_safetensors")):
        headers |= read_headers(file)
    if config_dict is not None:
        check_sizes(folder, config_dict, headers)


@contextmanager
def quiet_loading(*, show_report: bool = False) -> Iterator[None]:
    """Hide transformers' table of keys and its warning on tied weights; our own errors and warnings replace them.

    Args:
        show_report: Whether to show the table anyway.
    """
    marks = ["The tied weights mapping and config"] + ([] if show_report else ["LOAD REPORT"])

    def keep(record: logging.LogRecord) -> bool:
        return not any(mark in record.getMessage() for mark in marks)

    library = logging.getLogger("transformers.modeling_utils")
    library.addFilter(keep)
    try:
        yield
    finally:
        library.removeFilter(keep)


@contextmanager
def _clear_errors(path: Any) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be loaded: {error} Look at it with: mgem models check {path}"
        ) from error
    except RuntimeError as error:
        if "automatic conversion of the weights" not in str(error):
            raise
        raise CheckpointError(
            f"{str(path)!r} cannot be converted to the model's layout: {error.__cause__ or error} If it is a mixture "
            f"of experts, a layer lacks some of its experts. "
            f"Look at it with: mgem models check {path}"
        ) from error


def _account_for(cls: type[Any], path: Any, info: dict[str, Any], allows_mismatch: bool) -> None:
    for name in ("missing_keys", "unexpected_keys"):
        info[name] = {key for key in info[name] if not is_harmless_leftover(key)}
    mismatched = [
        f"{key}: {tuple(got)} in the checkpoint, {tuple(wanted)} in the model"
        for key, got, wanted in sorted(info["mismatched_keys"])
    ]
    if info["missing_keys"] or info["unexpected_keys"] or (mismatched and not allows_mismatch):
        source = "the given state_dict" if path is None else repr(str(path))
        advice = "Check the names in it." if path is None else f"Look at it with: mgem models check {path}"
        raise CheckpointError(
            f"The weights of {source} do not fit {cls.__name__} as its configuration describes it. {advice}",
            missing=sorted(info["missing_keys"]),
            unexpected=sorted(info["unexpected_keys"]),
            mismatched=mismatched,
        )


def _forget_renaming(model: Any, renaming: dict[str, str]) -> None:
    """Make `save_pretrained` write our names.

    On saving, transformers reverts the renaming done on loading. That would write the authors' names next to our
    config.json.
    """
    conversions = getattr(model, "_weight_conversions", None)
    if conversions:
        kept = [conversion for conversion in conversions if not set(conversion.source_patterns) <= renaming.keys()]
        model._weight_conversions = kept


def _settle_head(model: Any) -> None:
    """Mark the head as separate in the configuration if it differs from the embedding in the file."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not model.config.tie_word_embeddings or head.weight is embedding.weight:
        return
    if head.weight.is_meta or embedding.weight.is_meta:
        return
    logger.warning(
        "The checkpoint stores a head that differs from the embedding, although its configuration ties them. "
        "Both are kept: tie_word_embeddings is now false."
    )
    model.config.tie_word_embeddings = False
    model.config.text_config.tie_word_embeddings = False


def clear_idle_sampling(generation_config: Any) -> None:
    """Clear sampling options without effect, such as those in Vicuna's generation_config.json.

    transformers reads such a file and refuses to save it.

    Args:
        generation_config: A `GenerationConfig`, or None.
    """
    if generation_config is None or generation_config.do_sample:
        return
    for name in _SAMPLING_OPTIONS:
        if getattr(generation_config, name, None) is not None:
            setattr(generation_config, name, None)
