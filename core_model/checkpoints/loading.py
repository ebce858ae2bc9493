"""Loading weights in our layout or the authors', so that every key is accounted for.

transformers loads; this renames, asks what was missing, left over or of another shape, and does not go on with a model
that is partly random. A separate head that the file stores for a tied model is kept apart only if it differs.
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
from mgem_agent.errors import CheckpointError

__all__ = ["clear_idle_sampling", "load_pretrained", "quiet_loading"]

logger = logging.getLogger(__name__)

_OTHER_LAYOUTS = ("adapter_config.json", "shard-*-model-*.safetensors")
"""What tells an adapter and a distributed checkpoint, whose files transformers finds in its own ways."""

_SAMPLING_OPTIONS = ("temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def load_pretrained(cls: type[Any], parent: Callable[..., Any], path: Any, *args: Any, **kwargs: Any) -> Any:
    """Do what ``cls.from_pretrained`` does, strictly, for folders and hub ids in either layout.

    Args:
        cls: The model class.
        parent: transformers' own ``from_pretrained``, bound to the class.
        path: Folder or hub id; None where a `state_dict` is given.
        *args: Passed on.
        **kwargs: Passed on. `key_mapping` is added to; `ignore_mismatched_sizes` and `output_loading_info` mean what
            they do in transformers; a `quantization_config` is kept away from all but the language model.

    Returns:
        The model, or the model and what was missing, left over and of another shape, with `output_loading_info`.

    Raises:
        CheckpointError: If a file cannot be read, or a key is missing, left over or of another shape.
    """
    wants_info = kwargs.pop("output_loading_info", False)
    allows_mismatch = kwargs.pop("ignore_mismatched_sizes", False)
    kwargs["quantization_config"] = protect_vision(kwargs.get("quantization_config"))
    renaming = key_mapping()
    kwargs["key_mapping"] = {**renaming, **(kwargs.get("key_mapping") or {})}
    if path is not None and Path(path).is_dir() and not kwargs.get("gguf_file"):
        _check_files(Path(path) / kwargs.get("subfolder", ""), kwargs)
    with quiet_loading(show_report=allows_mismatch), _clear_errors(path):
        model, info = parent(path, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    _account_for(cls, path, info, allows_mismatch)
    _forget_renaming(model, renaming)
    _settle_head(model)
    clear_idle_sampling(getattr(model, "generation_config", None))
    return (model, info) if wants_info else model


def _check_files(folder: Path, kwargs: dict[str, Any]) -> None:
    """Read every header before a model is built: a broken file is named at once, and absurd sizes fill no memory."""
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
    """Hold back transformers' table of keys and its word on tied weights; an error or a warning of ours says it.

    Args:
        show_report: Whether the table is shown nevertheless.
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
            f"{str(path)!r} cannot be brought into the model's layout: {error.__cause__ or error} If it is a mixture, "
            f"the experts of a layer are not all there. "
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

    transformers undoes on saving what it did on loading, which would write the authors' names beside our config.json.
    """
    conversions = getattr(model, "_weight_conversions", None)
    if conversions:
        kept = [conversion for conversion in conversions if not set(conversion.source_patterns) <= renaming.keys()]
        model._weight_conversions = kept


def _settle_head(model: Any) -> None:
    """Say in the configuration that the head is separate, where the file's differs from the embedding."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not model.config.tie_word_embeddings or head.weight is embedding.weight:
        return
    if head.weight.is_meta or embedding.weight.is_meta:
        return
    logger.warning(
        "The checkpoint stores a head that differs from the embedding, though its configuration ties the two. "
        "They are kept apart: tie_word_embeddings is now false."
    )
    model.config.tie_word_embeddings = False
    model.config.text_config.tie_word_embeddings = False


def clear_idle_sampling(generation_config: Any) -> None:
    """Clear sampling options that have no effect, as Vicuna's generation_config.json has them.

    transformers reads such a file and refuses to save it.

    Args:
        generation_config: A `GenerationConfig`, or None.
    """
    if generation_config is None or generation_config.do_sample:
        return
    for name in _SAMPLING_OPTIONS:
        if getattr(generation_config, name, None) is not None:
            setattr(generation_config, name, None)
