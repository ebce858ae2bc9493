"""What a tool gives back: words for the model that called it, and a manifest for the program around it.

Pictures are named in the words by id. Whether they are also blocks is for the caller to say: a provider's API knows
nothing of our ids, and pixels cost its tokens.
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


class PictureTool(StructuredTool):
    """A tool of this package: models are shown the schema of its arguments as it is."""

    @property
    def tool_call_schema(self) -> ArgsSchema:
        """The class of the arguments; LangChain's own copy of it would lose its schema."""
        return self.args_schema


def make_tool(
    name: str, description: str, arguments: type[ToolArguments], run: Callable[..., ToolOutput]
) -> StructuredTool:
    """Make a tool whose errors are told to the model that calls.

    Args:
        name: What models call it.
        description: What models are told of it.
        arguments: What it takes.
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
    """Return a tool's words with what was not done as asked.

    Args:
        text: The words.
        notices: In sentences.
    """
    return " ".join([text, *notices])
