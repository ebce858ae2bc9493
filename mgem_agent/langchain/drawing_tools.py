"""Drawing and editing as LangChain tools."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args

from langchain_core.tools import BaseTool
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.langchain.picture_blocks import PictureBlocks, check_picture_blocks
from mgem_agent.langchain.tool_errors import told_to_the_caller
from mgem_agent.langchain.tool_output import ToolOutput, make_tool, tool_output, with_notices
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.drawing_arguments import CaptionArguments, EditArguments
from mgem_agent.tools.editing import edit_image
from mgem_agent.tools.editing_plan import EditRequest, EditWay
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["draw_tool", "edit_tool"]


def draw_tool(generator: ImageGenerator, store: ArtifactStore, *, picture_blocks: PictureBlocks = "none") -> BaseTool:
    """Create the tool `generate_image`; arguments as for `image_tools`.

    Raises:
        InputError: If `picture_blocks` is unknown, or needs a package that is not installed.
    """
    check_picture_blocks(picture_blocks)

    def run(arguments: CaptionArguments) -> ToolOutput:
        with told_to_the_caller():
            request, notices = arguments.request({})
            [result] = (it for it in draw(generator, [request]) if isinstance(it, ImageResult))
            if result.error is not None:
                raise result.error
            return _drawn(result, store, picture_blocks, notices)

    return make_tool("generate_image", "Draw a picture from a caption.", CaptionArguments, run)


def edit_tool(
    generator: ImageGenerator,
    store: ArtifactStore,
    *,
    fallbacks: Sequence[EditWay] = (),
    access: PictureAccess,
    picture_blocks: PictureBlocks = "none",
) -> BaseTool:
    """Create the tool `edit_image`; arguments as for `image_tools`.

    Raises:
        InputError: If a fallback or `picture_blocks` is unknown, or a package that it needs is not installed.
    """
    check_picture_blocks(picture_blocks)
    if isinstance(fallbacks, str) or not set(fallbacks) <= set(get_args(EditWay)):
        raise InputError(f"fallbacks is {fallbacks!r}. Allowed: a list of {', '.join(map(repr, get_args(EditWay)))}.")

    def run(arguments: EditArguments) -> ToolOutput:
        with told_to_the_caller():
            start = access.store(arguments.image, store)
            edit = arguments.request(
                lambda image: access.store(image, store),
                original=_original(start, store),
                fallbacks=tuple(fallbacks),
            )
            return _edited(generator, edit, store, picture_blocks, arguments.notices)

    description = "Edit a picture: by an instruction, or by redrawing a part of it."
    return make_tool("edit_image", description, EditArguments, run)


def _original(artifact_id: str, store: ArtifactStore) -> ImageRequest | None:
    recipe = store.get(artifact_id).recipe
    return recipe.request if recipe is not None else None


def _edited(
    generator: ImageGenerator, edit: EditRequest, store: ArtifactStore, blocks: PictureBlocks, notices: Sequence[str]
) -> ToolOutput:
    pictures: dict[str, Image.Image] = {}
    for name in edit.picture_ids:
        with suppress(InputError):  # what the original was made from may be gone, and is seldom needed
            pictures[name] = store.open(name)
    edited = edit_image(generator, edit, pictures=pictures)
    return _drawn(edited.result, store, blocks, notices, way=edited.way, is_fallback=edited.is_fallback)


def _drawn(
    result: ImageResult, store: ArtifactStore, blocks: PictureBlocks, notices: Sequence[str], **manifest: Any
) -> ToolOutput:
    artifact = store.put(result)
    text = f"Drew {artifact.id}, {artifact.width}x{artifact.height} pixels."
    told = with_notices(text, [*notices, *(notice.message for notice in result.notices)])
    return tool_output(told, [artifact.id], store, blocks=blocks, **manifest)
