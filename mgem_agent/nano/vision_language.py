"""nano's vision-language model, assembled from the weights in this package and the language model that is downloaded.

`weights/vlm` is what `mgem train export RUN FOLDER --small` writes: everything but the language model, in the format of
`core_model.checkpoints.partial_checkpoint`. At first use, the adapter is merged and the whole model is written to the
cache in float16, as a folder that `MiniGeminiForConditionalGeneration.from_pretrained` loads without this module. The
folder is named by a hash of both halves, so that new weights make a new folder. It also has the language model and the
adapter packed for fast decoding (`core_model.packed_weights`), which need them apart.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.errors import CheckpointError
from mgem_agent.nano.gguf_conversion import new_folder, quiet_transformers
from mgem_agent.nano.language_model import LONGEST_REPETITION, find_language_model, locked, nano_cache
from mgem_agent.nano.progress import shown_progress
from mgem_agent.nano.seals import explain_damage, is_intact, remove_sealed, seal_folder

if TYPE_CHECKING:
    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor

__all__ = ["PACKED_FILE", "VLM_WEIGHTS", "find_nano", "has_vision_weights", "hash_of", "load_nano", "nano_size"]

PACKED_FILE = "decoding.safetensors"
"""In the folder of the complete model: the language model's packed weights."""

_FOLDER_VERSION = b"3"
"""Changes with the files of that folder."""

VLM_WEIGHTS = Path(__file__).parent / "weights" / "vlm"
"""Everything but the language model."""


def has_vision_weights(folder: Path = VLM_WEIGHTS) -> bool:
    """Return whether nano's vision weights are in this installation."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def find_nano(
    *,
    language_model: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    folder: Path = VLM_WEIGHTS,
) -> Path:
    """Return the folder of the complete model; assemble it at first use, or if its files are broken.

    Args:
        language_model: Source of the language model; see :func:`find_language_model`.
        offline: Whether downloads are forbidden; by default from the environment.
        folder: Folder of the vision weights and the adapter.

    Raises:
        CheckpointError: If one part is missing, or both do not fit together.
    """
    if not has_vision_weights(folder):
        raise CheckpointError(
            f"The vision weights of 'nano' are not in this installation: there is no config.json with a "
            f"model.safetensors in {str(folder)!r}. Install a release of mgem-agent that has them."
        )
    if problem := explain_damage(folder, nano_cache()):
        raise CheckpointError(f"nano cannot be put together. {problem}")
    text = find_language_model(language_model, offline=offline)
    whole = nano_cache() / f"nano-{hash_of(folder, text)}"
    if not is_intact(whole):
        with locked(whole):
            if not is_intact(whole):
                remove_sealed(whole)
                with shown_progress("Assembling nano (only once)"), new_folder(whole) as passing, quiet_transformers():
                    _put_together(folder, text, passing)
                seal_folder(whole)
    return whole


def nano_size(language_model: str | os.PathLike[str] | None = None, *, folder: Path = VLM_WEIGHTS) -> ModelSize | None:
    """Return what nano needs in memory, from the headers of its files; None if it is not put together yet.

    Args:
        language_model: As for :func:`find_nano`.
        folder: As for :func:`find_nano`.
    """
    import torch

    from mgem_agent.core_model.checkpoints.size import checkpoint_size

    if not has_vision_weights(folder):
        return None
    try:
        text = find_language_model(language_model, offline=True)
    except CheckpointError:
        return None
    whole = nano_cache() / f"nano-{hash_of(folder, text)}"
    size = checkpoint_size(whole, {"dtype": torch.float32})
    packed = whole / PACKED_FILE
    if size is None or not packed.is_file():
        return size
    return replace(size, parts={**size.parts, "packed language model": packed.stat().st_size})


def load_nano(
    *,
    language_model: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    exact: bool = False,
    folder: Path = VLM_WEIGHTS,
    options: Mapping[str, Any] | None = None,
) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """Load the complete model, in evaluation mode, and its processor.

    Every caller loads nano here. Long repetitions are prevented, and on a CPU in float32, fast decoding is enabled.

    Args:
        language_model: As for :func:`find_nano`.
        offline: As for :func:`find_nano`.
        exact: Whether PyTorch computes every token, without the compiled code for a CPU.
        folder: As for :func:`find_nano`.
        options: Options of `from_pretrained`; float32 by default.

    Raises:
        CheckpointError: If one part is missing, or both do not fit together.
    """
    import torch

    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
    from mgem_agent.core_model.cpu_decoding import enable_cpu_decoding

    whole = find_nano(language_model=language_model, offline=offline, folder=folder)
    with quiet_transformers():
        model = MiniGeminiForConditionalGeneration.from_pretrained(
            whole, **{"dtype": torch.float32, **(options or {})}
        ).eval()
    model.generation_config.no_repeat_ngram_size = LONGEST_REPETITION
    with ThreadPoolExecutor(1) as beside:
        processor = beside.submit(MiniGeminiProcessor.from_pretrained, whole)
        if not exact:
            packed = whole / PACKED_FILE
            enable_cpu_decoding(model, packed if packed.is_file() else None)
        return model, processor.result()


def hash_of(folder: Path, text: Path) -> str:
    """Return a hash of both parts; the large language model is identified by the dates of its files."""
    found = hashlib.sha256(_FOLDER_VERSION)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    for file in sorted(text.iterdir()):
        state = file.stat()
        found.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return found.hexdigest()[:16]


def _put_together(folder: Path, text: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mgem_agent.core_model import MiniGeminiProcessor
    from mgem_agent.core_model.checkpoints.partial_checkpoint import adapter_factors, load_without_language_model
    from mgem_agent.core_model.cpu_decoding import pack_for_decoding

    language_model: Any = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32)
    factors = adapter_factors(folder)
    if factors is not None:
        pack_for_decoding(language_model, target / PACKED_FILE, factors)
    try:
        model = load_without_language_model(folder, language_model, dtype=torch.float32)
    except CheckpointError as error:
        raise CheckpointError(
            f"nano cannot be put together. {error}\nLeave MGEM_NANO_LLM unset; if it is, install mgem-agent again."
        ) from error
    model.half().save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(text)
    MiniGeminiProcessor.from_model_config(model.config, tokenizer).save_pretrained(target)
