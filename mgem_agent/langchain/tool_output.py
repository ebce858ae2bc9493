"""What a tool gives back: words for the model that called it, and a manifest for the program around it.

Pictures are named in the words by id. Whether they are also blocks is for the caller to say: a provider's API knows
nothing of our ids, and pixels cost its tokens.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

from langchain_core.tools import BaseTool, StructuredTool

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.langchain.tool_errors import explain_arguments

__all__ = ["PictureBlocks", "ToolOutput", "make_tool", "tool_output"]

ToolOutput = tuple[list[dict[str, Any]], dict[str, Any]]
"""Content blocks and artifact, as LangChain's `content_and_artifact` has them."""

PictureBlocks = Literal["none", "file_id", "base64"]
"""How pictures stand in a tool's content besides their ids in words: not at all; as image blocks that hold the id, for
models of this package; or as image blocks that hold the pixels, for models that look at them."""


def tool_output(
    text: str, artifact_ids: Sequence[str], store: ArtifactStore, /, *, blocks: PictureBlocks, **manifest: Any
) -> ToolOutput:
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


def make_tool(function: Callable[..., ToolOutput], *, name: str | None = None) -> BaseTool:
    """Make a tool of a function: its signature is the schema, and its errors are told to the model that calls.

    Args:
        function: Returns content and artifact; its docstring is the description.
        name: Of the tool, if not the function's.
    """
    return StructuredTool.from_function(
        function,
        name=name,
        parse_docstring=False,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=explain_arguments,
    )
