"""Convert a checkpoint, in the authors' layout or ours, to a folder in this library's layout.

Tensors are read, renamed, cast and written one shard at a time, from memory-mapped files. The output goes to a
temporary folder next to the destination, which is checked and then renamed: a killed run leaves nothing that looks like
a checkpoint.
"""

from __future__ import annotations

import errno
import itertools
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import GenerationConfig

from mgem_agent.core_model.checkpoints.cache import find_folder
from mgem_agent.core_model.checkpoints.files import TensorHeader, find_weight_files, open_tensors, read_headers
from mgem_agent.core_model.checkpoints.inspection import CheckpointReport, inspect_checkpoint
from mgem_agent.core_model.checkpoints.keys import is_harmless_leftover, to_our_key
from mgem_agent.core_model.checkpoints.loading import clear_idle_sampling
from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.errors import CheckpointError, InputError
from mgem_agent.user_files import user_path

__all__ = ["convert_checkpoint"]

_HEAD = "lm_head.weight"
_EMBEDDING = "model.language_model.embed_tokens.weight"
_ROWS_AT_ONCE = 16384
_SMALL_FILES_BYTES = 64 << 20
"""Bytes reserved for the configuration, the index and the tokenizer."""

Progress = Callable[[int, int], None]


def convert_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CheckpointReport:
    """Write a checkpoint in this library's layout, with at most one shard in memory.

    Args:
        src: A folder, or a hub id that is in the local cache, in the authors' layout or ours.
        dst: The folder to create.
        dtype: Floating-point type to write, such as ``"bfloat16"``; that of the source by default.
        max_shard_size: Largest file to write, in bytes or as ``"5GB"``.
        overwrite: Whether to replace a destination that is not empty.
        progress: Called after each tensor with the bytes written so far and the total.

    Returns:
        The report on the new folder, which is complete.

    Raises:
        CheckpointError: If the source is incomplete, the destination is not empty, or the disk is too small.
    """
    source, target = find_folder(src), user_path(dst)
    _check_target(source, target, overwrite)
    report = inspect_checkpoint(source)
    if report.format not in ("official", "ours") or not report.is_complete:
        raise CheckpointError(
            f"{str(src)!r} cannot be converted: it is not a complete Mini-Gemini checkpoint. "
            + " ".join(report.problems),
            missing=report.missing,
            unexpected=report.unexpected,
            mismatched=report.mismatched,
        )
    config = MiniGeminiConfig.from_pretrained(source)
    if getattr(config, "quantization_config", None):
        raise CheckpointError(
            f"{str(src)!r} is quantized and cannot be converted. Convert the original and quantize the result."
        )
    headers = _plan(source, config)
    cast = _float_type(dtype)
    if cast is not None:
        config.dtype = cast
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_space(target.parent, sum(_written_bytes(header, cast) for header in headers.values()))
    with _building(target, overwrite) as folder:
        _write_processor(source, folder, config)
        config.save_pretrained(folder)
        _write_weights(folder, headers, cast, max_shard_size, progress)
        _write_generation_config(source, folder)
        written = inspect_checkpoint(folder)
        if not written.is_complete:
            raise CheckpointError(
                f"The converted checkpoint {str(dst)!r} was incomplete and has been removed. "
                + " ".join(written.problems),
                missing=written.missing,
                unexpected=written.unexpected,
                mismatched=written.mismatched,
            )
    return inspect_checkpoint(target)


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.resolve() == source.resolve():
        raise CheckpointError(f"Source and destination are the same folder, {str(target)!r}. Give another destination.")
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"The destination {str(target)!r} is a file. Give a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise CheckpointError(
            f"The destination {str(target)!r} is not empty. Give another folder, or allow overwriting."
        )
    if source.resolve().is_relative_to(target.resolve()):
        raise CheckpointError(
            f"The destination {str(target)!r} contains the source {str(source)!r}. Give another folder."
        )


def _float_type(dtype: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is None or found in (torch.float32, torch.float16, torch.bfloat16):
        return found
    raise InputError(f"Cannot write weights as {dtype!r}. Allowed: 'float32', 'float16', 'bfloat16'.")


def _written_type(header: TensorHeader, cast: torch.dtype | None) -> torch.dtype:
    return cast if cast is not None and header.dtype.is_floating_point else header.dtype


def _written_bytes(header: TensorHeader, cast: torch.dtype | None) -> int:
    return header.num_elements * _written_type(header, cast).itemsize


def _plan(source: Path, config: MiniGeminiConfig) -> dict[str, TensorHeader]:
    """Return the tensors to write, by their names in the source, and decide whether the head is tied."""
    headers: dict[str, TensorHeader] = {}
    for file in find_weight_files(source):
        headers |= {key: header for key, header in read_headers(file).items() if not is_harmless_leftover(key)}
    if config.tie_word_embeddings and _HEAD in headers:
        embedding = next(key for key in headers if to_our_key(key) == _EMBEDDING)
        if _equal(headers, _HEAD, embedding):
            del headers[_HEAD]
        else:
            config.tie_word_embeddings = False
            config.text_config.tie_word_embeddings = False
    return headers


def _equal(headers: dict[str, TensorHeader], first: str, second: str) -> bool:
    with open_tensors(headers[first].file) as firsts, open_tensors(headers[second].file) as seconds:
        pairs = zip(
            firsts.get_tensor(first).split(_ROWS_AT_ONCE), seconds.get_tensor(second).split(_ROWS_AT_ONCE), strict=True
        )
        return all(torch.equal(one, other) for one, other in pairs)


def _check_space(parent: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(parent).free
    needed = num_bytes + _SMALL_FILES_BYTES
    if free < needed:
        raise CheckpointError(
            f"Converting needs {needed / 1e9:.1f} GB in {str(parent)!r}, which has {free / 1e9:.1f} GB free. "
            f"Make room, or choose another destination."
        )


@contextmanager
def _building(target: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder next to the target; it replaces the target on success and is removed on failure."""
    folder = _beside(target, "converting")
    folder.mkdir()
    try:
        yield folder
        if target.is_dir() and overwrite:
            old = _beside(target, "replaced")
            target.replace(old)
            folder.replace(target)
            shutil.rmtree(old)
        else:
            folder.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"The disk of {str(target.parent)!r} is full; the partly written {target.name!r} has been removed. "
                f"Make room, or choose another destination."
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(target: Path, what: str) -> Path:
    return target.parent / f".{target.name}.{what}-{uuid.uuid4().hex[:8]}"


def _write_weights(
    folder: Path,
    headers: dict[str, TensorHeader],
    cast: torch.dtype | None,
    max_shard_size: int | str,
    progress: Progress | None,
) -> None:
    split = split_state_dict_into_shards_factory(
        headers,
        get_storage_size=lambda header: _written_bytes(header, cast),
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )
    done, total = 0, int(split.metadata["total_size"])
    for name, keys in split.filename_to_tensors.items():
        shard: dict[str, torch.Tensor] = {}
        for key, tensor in _read_tensors(headers, keys):
            shard[to_our_key(key)] = tensor.to(_written_type(headers[key], cast)).contiguous()
            done += _written_bytes(headers[key], cast)
            if progress is not None:
                progress(done, total)
        _save(shard, folder / name)
        shutil.copymode(folder / "config.json", folder / name)  # safetensors restricts files to their owner
    if split.is_sharded:
        weight_map = {to_our_key(key): name for key, name in sorted(split.tensor_to_filename.items())}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _read_tensors(headers: dict[str, TensorHeader], keys: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Read tensors from their files, opening each file once."""
    for file, part in itertools.groupby(keys, key=lambda key: headers[key].file):
        with open_tensors(file) as tensors:
            for key in part:
                yield key, tensors.get_tensor(key)


def _save(shard: dict[str, torch.Tensor], file: Path) -> None:
    try:
        save_file(shard, file, metadata={"format": "pt"})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), str(error), str(file)) from error


def _write_generation_config(source: Path, folder: Path) -> None:
    if (source / "generation_config.json").is_file():
        generation_config = GenerationConfig.from_pretrained(source)
        clear_idle_sampling(generation_config)
        generation_config.save_pretrained(folder)


def _write_processor(source: Path, folder: Path, config: MiniGeminiConfig) -> None:
    """Write the tokenizer and the image processor, where the source has a tokenizer.

    Inference servers tokenise a whole dialogue with the tokenizer alone. So the mark of an image becomes one of its
    tokens, whose id is that of the visual tokens, and the chat template writes BOS if the tokenizer would add it.
    """
    if not any(source.glob("tokenizer*")):
        return
    from mgem_agent.core_model.processing import MiniGeminiProcessor
    from mgem_agent.core_model.prompts.templates import WRITES_BOS, is_own_template, load_prompt_template
    from mgem_agent.core_model.prompts.tokens import add_mark, special_affixes

    processor = MiniGeminiProcessor.from_pretrained(source)
    config.image_token_id = processor.image_token_id = add_mark(processor.tokenizer, processor.image_token)
    template = processor.chat_template
    if isinstance(template, str) and is_own_template(template):
        template = load_prompt_template(processor.prompt_template)  # the folder's may be of an older release
        writes_bos = bool(special_affixes(processor.tokenizer)[0])
        processor.chat_template = WRITES_BOS * writes_bos + template
    processor.save_pretrained(folder)
