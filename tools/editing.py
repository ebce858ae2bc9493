"""Changing a picture with any generator, by the way that is meant or by one that the caller allows instead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from PIL import Image

from mgem_agent.tools.drawing import draw
from mgem_agent.tools.editing_plan import EditRequest, EditWay, plan_edit
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["EditedImage", "edit_image"]


@dataclass(frozen=True, slots=True)
class EditedImage:
    """A picture that was changed.

    Attributes:
        way: The way that was taken.
        is_fallback: Whether it is another than was meant; then the result's notices say what that cost.
        result: The new picture, and how it was made.
    """

    way: EditWay
    is_fallback: bool
    result: ImageResult


def edit_image(
    generator: ImageGenerator,
    edit: EditRequest,
    *,
    pictures: Mapping[str, Image.Image],
    cancel: threading.Event | None = None,
    on_progress: Callable[[GenerationProgress], None] | None = None,
    strict: bool = False,
) -> EditedImage:
    """Change a picture.

    Only what the generator says that it cannot do leads to another way; a drawing that fails is an error.

    Args:
        generator: What draws.
        edit: What is to be changed, and which ways are allowed.
        pictures: The picture of each id that is named.
        cancel: Set by another thread to stop.
        on_progress: Takes each step.
        strict: Whether an argument that the generator would leave out or adapt is refused instead.

    Raises:
        UnsupportedRequestError: If the generator can go none of the ways that are allowed; it says what it can do.
        InputError: If a picture is missing.
        ToolError: If the drawing fails or is cancelled.

    Examples:
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> from mgem_agent.tools import Capabilities
        >>> generator = FlatColourGenerator(capabilities=Capabilities(tasks={"image_to_image"}))
        >>> edit = EditRequest(instruction="make it night", image="sea", fallbacks=("inpaint", "image_to_image"))
        >>> edited = edit_image(generator, edit, pictures={"sea": Image.new("RGB", (64, 64), "teal")})
        >>> edited.way, edited.result.notices[0].message
        ('image_to_image', "flat cannot do this by 'edit'; 'image_to_image' was used, prompted by 'make it night'.")
    """
    plan = plan_edit(edit, generator.capabilities, generator=generator.name, strict=strict)
    results = []
    for event in draw(generator, [plan.request], pictures=pictures, cancel=cancel, strict=strict):
        if isinstance(event, ImageResult):
            results.append(event)
        elif on_progress is not None:
            on_progress(event)
    [result] = results
    if result.error is not None:
        raise result.error
    return EditedImage(plan.way, plan.way != edit.way, replace(result, notices=plan.notices + result.notices))
