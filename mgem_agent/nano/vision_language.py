"""nano's vision-language model, put together: what is in the box, and the language model that is fetched.

`weights/vlm` holds everything but the language model: encoders, mining and projector as float16 safetensors, a LoRA for
the language model in peft's format, the configuration and the processor's files. The first time, the LoRA is merged and
the whole is written to the cache, in float16, as a folder that `MiniGeminiForConditionalGeneration.from_pretrained`
loads with nothing of this module; other programs may use it too. Its name is a hash of both halves, so that new weights
make a new folder.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import CheckpointError
from mgem_agent.nano.gguf_conversion import new_folder, quiet_transformers
from mgem_agent.nano.language_model import find_language_model, locked, nano_cache
from mgem_agent.nano.progress import shown_progress

if TYPE_CHECKING:
    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor

__all__ = ["VLM_WEIGHTS", "find_nano", "has_eyes", "load_nano"]

VLM_WEIGHTS = Path(__file__).parent / "weights" / "vlm"
"""Everything but the language model."""

_PARTS = ("model.vision_tower.", "model.high_res_vision_tower.", "model.mining.", "model.multi_modal_projector.")


def has_eyes(folder: Path = VLM_WEIGHTS) -> bool:
    """Return whether the half of nano that sees is in this installation."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def find_nano(
    *,
    language_model: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    folder: Path = VLM_WEIGHTS,
) -> Path:
    """Return the folder of the whole model, which is put together if this is the first time.

    Args:
        language_model: Where to take the language model from; see :func:`find_language_model`.
        offline: Whether nothing may be fetched; by default as the environment says.
        folder: Where its other half is.

    Raises:
        CheckpointError: If a half is not there, or the two do not fit.
    """
    if not has_eyes(folder):
        raise CheckpointError(
            f"The vision weights of 'nano' are not in this installation: there is no config.json with a "
            f"model.safetensors in {str(folder)!r}. Install a release of mgem-agent that has them."
        )
    text = find_language_model(language_model, offline=offline)
    whole = nano_cache() / f"nano-{_hash_of(folder, text)}"
    if not whole.is_dir():
        with locked(whole):
            if not whole.is_dir():
                with shown_progress("Putting nano together, once"), new_folder(whole) as passing, quiet_transformers():
                    _put_together(folder, text, passing)
    return whole


def load_nano(
    *,
    language_model: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    exact: bool = False,
    folder: Path = VLM_WEIGHTS,
) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """Return the whole model, in float32 and in evaluation mode, and its processor.

    Args:
        language_model: As in :func:`find_nano`.
        offline: As there.
        exact: Whether its float32 weights write each token, not the same in fewer bits.
        folder: As there.

    Raises:
        CheckpointError: If a half is not there, or the two do not fit.
    """
    import torch

    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
    from mgem_agent.core_model.quick_decoding import quicken

    whole = find_nano(language_model=language_model, offline=offline, folder=folder)
    with quiet_transformers():
        model = MiniGeminiForConditionalGeneration.from_pretrained(whole, dtype=torch.float32).eval()
    quicken(model, exact=exact)
    return model, MiniGeminiProcessor.from_pretrained(whole)


def _hash_of(folder: Path, text: Path) -> str:
    """Return a name for what two halves make; the language model, which is large, is known by its files' dates."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    for file in sorted(text.iterdir()):
        state = file.stat()
        found.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return found.hexdigest()[:16]


def _put_together(folder: Path, text: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor

    config: Any = MiniGeminiConfig.from_pretrained(folder)
    language_model: Any = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32)
    model: Any = MiniGeminiForConditionalGeneration(config)
    weights = _vision_weights(folder)
    weights |= {
        "lm_head.weight" if name == "lm_head.weight" else f"model.language_model.{name.removeprefix('model.')}": value
        for name, value in language_model.state_dict().items()
    }
    _load(model, weights, folder, text)
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        adapted: Any = PeftModel.from_pretrained(model, folder)
        model = adapted.merge_and_unload()
    if (folder / "tokenizer_config.json").is_file():
        processor = MiniGeminiProcessor.from_pretrained(folder)
    else:
        processor = MiniGeminiProcessor.from_model_config(config, AutoTokenizer.from_pretrained(text))
    if language_model.generation_config is not None and not (folder / "generation_config.json").is_file():
        model.generation_config = language_model.generation_config
    model.half().save_pretrained(target)
    processor.save_pretrained(target)


def _vision_weights(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{str(folder / 'model.safetensors')!r} cannot be read: {error}. Install mgem-agent again."
        ) from error
    return {name if name.startswith("model.") else f"model.{name}": value.float() for name, value in found.items()}


def _load(model: Any, weights: dict[str, Any], folder: Path, text: Path) -> None:
    """Fill a model with both halves, every key accounted for."""
    wanted = model.state_dict()
    mismatched = [
        f"{name}: {tuple(value.shape)} in the checkpoint, {tuple(wanted[name].shape)} in the model"
        for name, value in sorted(weights.items())
        if name in wanted and value.shape != wanted[name].shape
    ]
    missing = sorted(set(wanted) - set(weights) - {"lm_head.weight"})
    unexpected = sorted(set(weights) - set(wanted))
    if mismatched or missing or unexpected:
        raise CheckpointError(
            f"The vision weights in {str(folder)!r} and the language model in {str(text)!r} do not make nano. Leave "
            "MGEM_NANO_LLM unset, or name the language model that the weights were trained with.",
            missing=missing,
            unexpected=unexpected,
            mismatched=mismatched,
        )
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
