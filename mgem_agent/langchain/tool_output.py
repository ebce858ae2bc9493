"""The output of a tool: text for the model that called it, and a manifest for the program.

The text names pictures by id. The caller decides whether they are also image blocks: a provider's API does not know our
ids, and pixels cost tokens.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from langchain_core.tools import ArgsSchema, StructuredTool

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.tools.tool_arguments import ToolArguments, explain_arguments

__all__ = ["PictureBlocks", "PictureTool", "ToolOutput", "make_tool", "tool_output", "with_notices"]

ToolOutput = tuple[list[dict[str, Any]], dict[str, Any]]
"""Content blocks and artifact, as LangChain's `content_and_artifact` has them."""

PictureBlocks = Literal["none", "file_id", "base64"]
"""How pictures appear in a tool's content, in addition to their ids in the text: not at all; as image blocks with the
id, for models of this package; or as image blocks with the pixels, for models that look at them."""


def tool_output(
    text: str, artifact_ids: Sequence[str], store: ArtifactStore, /, *, blocks: PictureBlocks, **manifest: Any
) -> ToolOutput:
    """Return content and artifact.

    Args:
        text: Text for the model.
        artifact_ids: Ids of the pictures, all stored.
        store: The store of the pictures.
        blocks: How they appear in the content.
        manifest: Further JSON data of the artifact.
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


class PictureTool(StructuredTool):
    """A tool of this package. Models see the unchanged schema of its arguments."""

    @property
    def tool_call_schema(self) -> ArgsSchema:
        """The class of the arguments; LangChain's own copy of it would lose its schema."""
        return self.args_schema


def make_tool(
    name: str, description: str, arguments: type[ToolArguments], run: Callable[..., ToolOutput]
) -> StructuredTool:
    """Create a tool whose errors are returned to the calling model.

    Args:
        name: Name for the model.
        description: Description for the model.
        arguments: Class of the arguments.
        run: Takes the arguments, unknown ones too, and returns content and artifact.
    """
    return PictureTool(
        name=name,
        description=description,
        args_schema=arguments,
        func=lambda **given: run(arguments.model_validate(given)),
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=explain_arguments,
    )


def with_notices(text: str, notices: Iterable[str]) -> str:
    """Return a tool's text with its notices.

    Args:
        text: The text.
        notices: The notices, in sentences.
    """
    return " ".join([text, *notices])
