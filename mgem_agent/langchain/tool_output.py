"""What a tool that draws gives back: words for the model that called it, and a manifest for the program around it.

Pictures are named in the words by id. Whether they are also blocks is for the caller to say: a provider's API knows
nothing of our ids, and pixels cost its tokens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

from mgem_agent.artifacts.store import ArtifactStore

__all__ = ["PictureBlocks", "tool_output"]

PictureBlocks = Literal["none", "file_id", "base64"]
"""How pictures stand in a tool's content besides their ids in words: not at all; as image blocks that hold the id, for
models of this package; or as image blocks that hold the pixels, for models that look at them."""


def tool_output(
    text: str, artifact_ids: Sequence[str], store: ArtifactStore, *, blocks: PictureBlocks, **manifest: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return content and artifact.

    Args:
        text: For the model.
        artifact_ids: Pictures, all stored.
        store: Where they are.
        blocks: How they stand in the content.
        manifest: What else the artifact says, as JSON.
    """
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    images = []
    for name in artifact_ids:
        artifact, path = store.get(name), store.path(name)
        recipe = artifact.recipe
        images.append(
            {
                "id": artifact.id,
                "path": str(path),
                "prompt": recipe.request.prompt if recipe else None,
                "seed": artifact.seed,
                "generator": recipe.generator if recipe else None,
                "model": recipe.model if recipe else None,
                "parents": list(artifact.parents),
            }
        )
        if blocks == "file_id":
            content.append({"type": "image", "file_id": artifact.id})
        elif blocks == "base64":
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            content.append({"type": "image", "id": artifact.id, "mime_type": "image/png", "base64": data})
    return content, {"images": images, **manifest}
