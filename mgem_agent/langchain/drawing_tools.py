"""Drawing and editing as LangChain tools."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, get_args

from langchain_core.tools import BaseTool
from PIL import Image
from pydantic import Field, ValidationError

from mgem_agent.agent.drawing import read_request
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.langchain.tool_errors import explain_arguments, told_to_the_caller
from mgem_agent.langchain.tool_output import PictureBlocks, ToolOutput, make_tool, tool_output
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.editing import edit_image
from mgem_agent.tools.editing_plan import EditRequest, EditWay
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["draw_tool", "edit_tool"]

Size = Annotated[int | None, Field(description="In pixels; leave out for the generator's own.")]
Seed = Annotated[int | None, Field(description="The same seed draws the same picture; leave out for any.")]
NegativePrompt = Annotated[str | None, Field(description="What not to draw.")]


def draw_tool(generator: ImageGenerator, store: ArtifactStore, *, picture_blocks: PictureBlocks = "none") -> BaseTool:
    """Make the tool `generate_image`; arguments as for `image_tools`."""

    def generate_image(
        prompt: Annotated[str, Field(description="A full caption: subject, setting, style.")],
        negative_prompt: NegativePrompt = None,
        width: Size = None,
        height: Size = None,
        seed: Seed = None,
    ) -> ToolOutput:
        """Draw a picture from a caption."""
        args = {"prompt": prompt, "negative_prompt": negative_prompt, "width": width, "height": height, "seed": seed}
        with told_to_the_caller():
            [result] = (it for it in draw(generator, [read_request(args, {})]) if isinstance(it, ImageResult))
            if result.error is not None:
                raise result.error
            return _drawn(result, store, picture_blocks)

    return make_tool(generate_image)


def edit_tool(
    generator: ImageGenerator,
    store: ArtifactStore,
    *,
    fallbacks: Sequence[EditWay] = (),
    access: PictureAccess,
    picture_blocks: PictureBlocks = "none",
) -> BaseTool:
    """Make the tool `edit_image`; arguments as for `image_tools`.

    Raises:
        InputError: If a fallback is unknown.
    """
    if isinstance(fallbacks, str) or not set(fallbacks) <= set(get_args(EditWay)):
        raise InputError(f"fallbacks is {fallbacks!r}. Allowed: a list of {', '.join(map(repr, get_args(EditWay)))}.")

    def edit_image(
        image: Annotated[str, Field(description="The picture to change: its id (img-…) or a data URL.")],
        instruction: Annotated[str, Field(description="What to change; with a mask or strength, what to draw.")],
        mask: Annotated[str | None, Field(description="A picture whose white parts alone are redrawn.")] = None,
        strength: Annotated[
            float | None, Field(description="From 0 to 1, how much of the picture may change; not for instructions.")
        ] = None,
        references: Annotated[
            list[str] | None, Field(description="Pictures whose subject or style is to be kept.")
        ] = None,
        caption: Annotated[
            str | None,
            Field(description="What the whole picture shows afterwards, for generators that obey no instruction."),
        ] = None,
        negative_prompt: NegativePrompt = None,
        seed: Seed = None,
    ) -> ToolOutput:
        """Change a picture: by an instruction, or by redrawing some of it."""
        with told_to_the_caller():
            start = access.store(image, store)
            edit = _edit_request(
                {
                    "image": start,
                    "instruction": instruction,
                    "mask": mask and access.store(mask, store),
                    "strength": strength,
                    "references": tuple(access.store(each, store) for each in references or ()),
                    "caption": caption,
                    "negative_prompt": negative_prompt,
                    "seed": seed,
                    "original": _original(start, store),
                    "fallbacks": tuple(fallbacks),
                }
            )
            return _edited(generator, edit, store, picture_blocks)

    return make_tool(edit_image)


def _edit_request(args: dict[str, Any]) -> EditRequest:
    try:
        return EditRequest(**args)
    except ValidationError as error:
        raise InputError(explain_arguments(error)) from error


def _original(artifact_id: str, store: ArtifactStore) -> ImageRequest | None:
    recipe = store.get(artifact_id).recipe
    return recipe.request if recipe is not None else None


def _edited(generator: ImageGenerator, edit: EditRequest, store: ArtifactStore, blocks: PictureBlocks) -> ToolOutput:
    pictures: dict[str, Image.Image] = {}
    for name in edit.picture_ids:
        with suppress(InputError):  # what the original was made from may be gone, and is seldom needed
            pictures[name] = store.open(name)
    edited = edit_image(generator, edit, pictures=pictures)
    return _drawn(edited.result, store, blocks, way=edited.way, is_fallback=edited.is_fallback)


def _drawn(result: ImageResult, store: ArtifactStore, blocks: PictureBlocks, **manifest: Any) -> ToolOutput:
    artifact = store.put(result)
    notices = "".join(f" {notice.message}" for notice in result.notices)
    text = f"Drew {artifact.id}, {artifact.width}x{artifact.height} pixels.{notices}"
    return tool_output(text, [artifact.id], store, blocks=blocks, **manifest)
