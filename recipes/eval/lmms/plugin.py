"""What lmms-eval loads by the entry-point group `lmms_eval.models`: the names of our classes."""

from __future__ import annotations

from typing import Any

__all__ = ["MODEL_ID", "manifest"]

MODEL_ID = "mgem"
"""Name of the model on lmms-eval's command line: `lmms-eval --model mgem --model_args pretrained=YanweiLi/MGM-7B`."""

_CLASSES = "mgem_agent.recipes.eval.lmms.model"


def manifest() -> Any:
    """Return the `ModelManifest`; lmms-eval calls this when it lists its models."""
    # lmms-eval is installed only where it runs.
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest(
        model_id=MODEL_ID,
        chat_class_path=f"{_CLASSES}.MgemChat",
        simple_class_path=f"{_CLASSES}.MgemSimple",
        aliases=("mini_gemini",),
    )
