"""Drawing and editing as LangChain tools, for agents that reason by themselves."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import Field

from mgem_agent.agent_drawing import read_request
from mgem_agent.agent_messages import store_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import MgemError
from mgem_agent.langchain.tool_output import PictureBlocks, tool_output
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["image_tools"]

Output = tuple[list[dict[str, Any]], dict[str, Any]]
Size = Annotated[int | None, Field(description="In pixels; leave out for the generator's own.")]
Seed = Annotated[int | None, Field(description="The same seed draws the same picture; leave out for any.")]


def image_tools(
    generator: ImageGenerator, store: ArtifactStore | None = None, *, picture_blocks: PictureBlocks = "none"
) -> list[BaseTool]:
    """Make the tools `generate_image` and `edit_image` of a generator.

    They return words that name the picture by id, and an artifact with its path and how it was made. What goes wrong is
    told to the model that called, and raises nothing.

    Args:
        generator: What draws.
        store: Where pictures are kept; `ArtifactStore()` if not given.
        picture_blocks: How pictures stand in the content besides their ids in words.

    Example:
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> [tool.name for tool in image_tools(FlatColourGenerator())]
        ['generate_image', 'edit_image']
    """
    kept = store if store is not None else ArtifactStore()

    def generate_image(
        prompt: Annotated[str, Field(description="A full caption: subject, setting, style.")],
        negative_prompt: Annotated[str | None, Field(description="What not to draw.")] = None,
        width: Size = None,
        height: Size = None,
        seed: Seed = None,
    ) -> Output:
        """Draw a picture from a caption."""
        return _drawn(
            {"prompt": prompt, "negative_prompt": negative_prompt, "width": width, "height": height, "seed": seed}
        )

    def edit_image(
        image: Annotated[str, Field(description="The picture to change: its id (img-…), a path, or a data URL.")],
        instruction: Annotated[str, Field(description="What to change; with a mask or strength, what to draw.")],
        mask: Annotated[str | None, Field(description="A picture whose white parts alone are redrawn.")] = None,
        strength: Annotated[
            float | None, Field(description="From 0 to 1, how much of the picture may change; not for instructions.")
        ] = None,
        seed: Seed = None,
    ) -> Output:
        """Change a picture: by an instruction, or by redrawing some of it."""
        task = "inpaint" if mask is not None else "image_to_image" if strength is not None else "edit"
        args = {"prompt": instruction, "task": task, "strength": strength, "seed": seed, "image": image, "mask": mask}
        return _drawn(args)

    def _drawn(args: dict[str, Any]) -> Output:
        try:
            stored = {name: store_picture(args[name], kept) for name in ("image", "mask") if args.get(name) is not None}
            request = read_request({**args, **stored}, {})
            return _output(_result(generator, request, kept), kept, picture_blocks)
        except MgemError as error:
            raise ToolException(str(error)) from error

    return [
        StructuredTool.from_function(
            function, parse_docstring=False, response_format="content_and_artifact", handle_tool_error=True
        )
        for function in (generate_image, edit_image)
    ]


def _result(generator: ImageGenerator, request: ImageRequest, store: ArtifactStore) -> ImageResult:
    pictures = {name: store.open(name) for name in request.picture_ids}
    [result] = (event for event in draw(generator, [request], pictures=pictures) if isinstance(event, ImageResult))
    if result.error is not None:
        raise result.error
    return result


def _output(result: ImageResult, store: ArtifactStore, blocks: PictureBlocks) -> Output:
    artifact = store.put(result)
    notices = "".join(f" {notice.message}" for notice in result.notices)
    text = f"Drew {artifact.id}, {artifact.width}x{artifact.height} pixels.{notices}"
    return tool_output(text, [artifact.id], store, blocks=blocks)
