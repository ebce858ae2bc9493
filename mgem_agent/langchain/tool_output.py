"""The output of a tool: text for the model that called it, and a manifest for the program.

The text names pictures by id. `picture_blocks.py` decides how they appear in the content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.tools import ArgsSchema, StructuredTool

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.langchain.picture_blocks import Content, PictureBlocks, content_of
from mgem_agent.tools.tool_arguments import ToolArguments, explain_arguments

__all__ = ["ToolOutput", "make_tool", "tool_output", "with_notices"]

ToolOutput = tuple[Content, dict[str, Any]]
"""Content and artifact, as LangChain's `content_and_artifact` has them."""


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
    images = []
    pictures = []
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
        pictures.append((artifact.id, path))
    return content_of(text, pictures, blocks), {"images": images, **manifest}


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
        run: Gets the arguments, including unknown ones, and returns content and artifact.
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
        notices: The notices, as sentences.
    """
    return " ".join([text, *notices])
