"""Edit a picture with any generator, by the requested way or by a fallback that the caller allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from PIL import Image

from mgem_agent.tools.budget import Meter
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.editing_plan import EditRequest, EditWay, plan_edit
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["EditedImage", "edit_image"]


@dataclass(frozen=True, slots=True)
class EditedImage:
    """An edited picture.

    Attributes:
        way: The way that was used.
        is_fallback: Whether it is a fallback; then the result's notices say what changed.
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
    meter: Meter | None = None,
) -> EditedImage:
    """Edit a picture.

    A fallback is used only if the generator does not support the requested way. A failed request is an error.

    Args:
        generator: The generator that draws.
        edit: What to change, and which fallbacks are allowed.
        pictures: The pictures that the request names, by id.
        cancel: Set this from another thread to stop.
        on_progress: Called with each step.
        strict: Raise an error instead of dropping or adapting an argument.
        meter: Refuses a picture that would pass a budget, and counts what is spent.

    Raises:
        UnsupportedRequestError: If the generator supports none of the allowed ways.
        InputError: If a picture is missing.
        BudgetExceededError: If the picture would pass a budget.
        ToolError: If drawing fails or is cancelled.

    Examples:
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> from mgem_agent.tools import Capabilities
        >>> generator = FlatColourGenerator(capabilities=Capabilities(tasks={"image_to_image"}))
        >>> edit = EditRequest(instruction="make it night", image="sea", fallbacks=("inpaint", "image_to_image"))
        >>> edited = edit_image(generator, edit, pictures={"sea": Image.new("RGB", (64, 64), "teal")})
        >>> edited.way, edited.result.notices[0].message
        ('image_to_image', "flat does not support 'edit'; 'image_to_image' was used with the prompt 'make it night'.")
    """
    plan = plan_edit(edit, generator.capabilities, generator=generator.name, strict=strict)
    results = []
    for event in draw(generator, [plan.request], pictures=pictures, cancel=cancel, strict=strict, meter=meter):
        if isinstance(event, ImageResult):
            results.append(event)
        elif on_progress is not None:
            on_progress(event)
    [result] = results
    if result.error is not None:
        raise result.error
    return EditedImage(plan.way, plan.way != edit.way, replace(result, notices=plan.notices + result.notices))
