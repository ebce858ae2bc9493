"""Drawing and editing as LangChain tools."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args

from langchain_core.tools import BaseTool
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import GeneratorOutputError, InputError
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.langchain.picture_blocks import PictureBlocks, check_picture_blocks
from mgem_agent.langchain.tool_errors import errors_for_the_model
from mgem_agent.langchain.tool_output import ToolOutput, make_tool, tool_output, with_notices
from mgem_agent.tools.budget import Budgets
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.drawing_arguments import CaptionArguments, EditArguments
from mgem_agent.tools.editing import edit_image
from mgem_agent.tools.editing_plan import EditRequest, EditWay
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.shared_meter import SharedMeter

__all__ = ["draw_tool", "edit_tool"]

OnProgress = Callable[[GenerationProgress], None]
"""Called with each step, in the thread that draws."""


def draw_tool(
    generator: ImageGenerator,
    store: ArtifactStore,
    *,
    defaults: Mapping[str, Any] | None = None,
    picture_blocks: PictureBlocks = "none",
    cancel: threading.Event | None = None,
    on_progress: OnProgress | None = None,
    meter: SharedMeter | None = None,
    limits: Budgets | None = None,
) -> BaseTool:
    """Create the tool `generate_image`; other arguments as for `image_tools`.

    Args:
        generator: The generator that draws.
        store: The store of the pictures.
        defaults: Values for fields of the request that a call does not set.
        picture_blocks: How pictures appear in the content.
        cancel: Set this from another thread to stop.
        on_progress: Called with each step.
        meter: Refuses a call that would pass a budget, before it is made, and counts what is spent.
        limits: Further limits of each call.

    Raises:
        InputError: If `picture_blocks` is unknown, or needs a package that is not installed.
    """
    check_picture_blocks(picture_blocks)
    shared = meter if meter is not None else SharedMeter()

    def run(arguments: CaptionArguments) -> ToolOutput:
        with errors_for_the_model(), shared.call(limits, cancel) as call:
            request, notices = arguments.request(defaults or {})
            for event in draw(generator, [request], cancel=call.cancel, meter=call.meter):
                if isinstance(event, GenerationProgress):
                    if on_progress is not None:
                        on_progress(event)
                elif event.error is not None:
                    raise event.error
                else:
                    return _drawn(event, store, picture_blocks, notices)
            raise GeneratorOutputError(f"Generator {generator.name!r} gave no result.")

    return make_tool("generate_image", "Draw a picture from a caption.", CaptionArguments, run)


def edit_tool(
    generator: ImageGenerator,
    store: ArtifactStore,
    *,
    fallbacks: Sequence[EditWay] = (),
    access: PictureAccess,
    picture_blocks: PictureBlocks = "none",
    cancel: threading.Event | None = None,
    on_progress: OnProgress | None = None,
    meter: SharedMeter | None = None,
    limits: Budgets | None = None,
) -> BaseTool:
    """Create the tool `edit_image`; arguments as for `image_tools` and `draw_tool`.

    Raises:
        InputError: If a fallback or `picture_blocks` is unknown, or a package that it needs is not installed.
    """
    check_picture_blocks(picture_blocks)
    if isinstance(fallbacks, str) or not set(fallbacks) <= set(get_args(EditWay)):
        raise InputError(f"fallbacks is {fallbacks!r}. Allowed: a list of {', '.join(map(repr, get_args(EditWay)))}.")
    shared = meter if meter is not None else SharedMeter()

    def run(arguments: EditArguments) -> ToolOutput:
        with errors_for_the_model(), shared.call(limits, cancel) as call:
            start = access.store(arguments.image, store)
            edit = arguments.request(
                lambda image: access.store(image, store),
                original=_original(start, store),
                fallbacks=tuple(fallbacks),
            )
            edited = edit_image(
                generator,
                edit,
                pictures=_pictures(edit, store),
                cancel=call.cancel,
                on_progress=on_progress,
                meter=call.meter,
            )
            facts = {"way": edited.way, "is_fallback": edited.is_fallback}
            return _drawn(edited.result, store, picture_blocks, arguments.notices, **facts)

    description = "Edit a picture: by an instruction, or by redrawing a part of it."
    return make_tool("edit_image", description, EditArguments, run)


def _original(artifact_id: str, store: ArtifactStore) -> ImageRequest | None:
    recipe = store.get(artifact_id).recipe
    return recipe.request if recipe is not None else None


def _pictures(edit: EditRequest, store: ArtifactStore) -> dict[str, Image.Image]:
    pictures: dict[str, Image.Image] = {}
    for name in edit.picture_ids:
        with suppress(InputError):  # a parent picture may be deleted, and is rarely needed
            pictures[name] = store.open(name)
    return pictures


def _drawn(
    result: ImageResult, store: ArtifactStore, blocks: PictureBlocks, notices: Sequence[str], **manifest: Any
) -> ToolOutput:
    artifact = store.put(result)
    text = f"Drew {artifact.id}, {artifact.width}x{artifact.height} pixels."
    told = [*notices, *(notice.message for notice in result.notices)]
    return tool_output(with_notices(text, told), [artifact.id], store, blocks=blocks, notices=told, **manifest)
