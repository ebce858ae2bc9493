"""The plug-in of vLLM: `vllm serve FOLDER` serves Mini-Gemini wherever this package is installed.

vLLM calls `register` in each of its processes, through the entry point `vllm.general_plugins`. The model runs on vLLM's
Transformers backend, so that attention, batching and the cache are vLLM's, and everything else is this package's model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mgem_agent.errors import CheckpointError

if TYPE_CHECKING:
    from mgem_agent.core_model import MiniGeminiProcessor

__all__ = ["ARCHITECTURE", "register", "require_mark"]

ARCHITECTURE = "MiniGeminiForConditionalGeneration"
"""The architecture in a folder's `config.json`."""

_MODEL = "mgem_agent.scale.vllm_model:MiniGeminiForVllm"


def register() -> None:
    """Register the architecture with vLLM, and our classes with transformers' Auto classes."""
    import mgem_agent.core_model  # noqa: F401  registers the Auto classes

    from vllm import ModelRegistry  # pyright: ignore[reportMissingImports]  # isort: skip

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, _MODEL)


def require_mark(tokenizer: Any, processor: MiniGeminiProcessor, folder: str) -> None:
    """Check that a tokenizer turns the mark of an image into the id of a visual token.

    Args:
        tokenizer: vLLM's tokenizer.
        processor: The processor of the same folder.
        folder: The folder or hub id, for the error.

    Raises:
        CheckpointError: If it does not.
    """
    if tokenizer.convert_tokens_to_ids(processor.image_token) != processor.image_token_id:
        raise CheckpointError(
            f"The tokenizer of {folder!r} has no token {processor.image_token!r} with the id "
            f"{processor.image_token_id}, by which vLLM finds the pictures of a prompt. Write a folder that has it: "
            f"mgem models convert {folder} NEW_FOLDER"
        )
