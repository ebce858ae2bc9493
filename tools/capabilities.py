"""What an image generator supports, and how a request that asks for more is handled.

No argument is ignored silently. Unsupported arguments that change the meaning of the picture (the task, input pictures,
unknown options) raise an error. Arguments that only steer it (a negative prompt, guidance, steps, a seed, a size) are
dropped or adapted, and the result has a notice for each. If a generator has a vocabulary, the caption is mapped onto
it, and the notice names the words that were left out. With `strict=True` these cases raise an error too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.redaction import redact
from mgem_agent.tools.image_request import ImageRequest, ImageTask
from mgem_agent.tools.vocabulary import AdaptedCaption, Vocabulary

__all__ = ["Capabilities", "Notice", "negotiate", "recordable", "with_start_size"]


class Notice(BaseModel):
    """A report that an argument of the request was changed or left out.

    Attributes:
        argument: Name of the request's field.
        message: What was requested and what was done instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    argument: str
    message: Annotated[str, AfterValidator(redact)]


class Capabilities(BaseModel):
    """The tasks and arguments that a generator supports.

    Attributes:
        tasks: Supported tasks.
        unsupported: Why a task is not supported, in sentences, for tasks that a user would expect.
        negative_prompt: Whether it uses a negative prompt.
        seed: Whether a seed can be set, so that the same seed gives the same picture.
        is_deterministic: Whether the same caption always gives the same picture, so that drawing it again is useless.
        num_inference_steps: Whether the number of steps can be set.
        guidance_scale: Whether the guidance scale can be set.
        strength: Whether the strength can be set.
        max_references: Maximum number of reference pictures; 0 for none.
        sizes: Supported sizes (width, height); empty if any size is supported.
        size_multiple: Width and height must be multiples of this, in pixels.
        min_size: Smallest side, in pixels.
        max_size: Largest side, in pixels.
        max_batch_size: Maximum number of pictures in one batch; None for no maximum.
        progress: Whether it reports each step.
        cancel: Whether a running request can be cancelled.
        previews: Whether it can show a picture while drawing it; see `PreviewingGenerator`.
        options: Supported names in `ImageRequest.options`.
        vocabulary: All things and places that a small model can draw; None for a model that takes any text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: frozenset[ImageTask] = frozenset({"text_to_image"})
    unsupported: dict[ImageTask, str] = Field(default_factory=dict)
    negative_prompt: bool = False
    seed: bool = False
    is_deterministic: bool = False
    num_inference_steps: bool = False
    guidance_scale: bool = False
    strength: bool = False
    max_references: int = Field(default=0, ge=0)
    sizes: tuple[tuple[int, int], ...] = ()
    size_multiple: int = Field(default=1, ge=1)
    min_size: int = Field(default=16, ge=1)
    max_size: int = Field(default=8192, ge=1)
    max_batch_size: int | None = Field(default=None, ge=1)
    progress: bool = False
    cancel: bool = False
    previews: bool = False
    options: frozenset[str] = frozenset()
    vocabulary: Vocabulary | None = None


_STEERING = ("negative_prompt", "seed", "num_inference_steps", "guidance_scale", "strength")


def negotiate(
    request: ImageRequest, capabilities: Capabilities, *, generator: str, strict: bool = False
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Fit a request to what a generator supports.

    Args:
        request: The request.
        capabilities: What the generator supports.
        generator: Name of the generator, for messages.
        strict: Raise an error instead of dropping or adapting an argument.

    Returns:
        The request that the generator can do, and a notice for each argument that was changed.

    Raises:
        UnsupportedRequestError: If the generator does not support the task, the input pictures or an option; with
            `strict`, also if any argument would be changed.
    """
    refused = dict(_refusals(request, capabilities))
    if refused:
        raise UnsupportedRequestError(
            f"Generator {generator!r} cannot do this: " + " ".join(refused.values()), arguments=tuple(refused)
        )
    changes: dict[str, object] = {}
    notices = []
    for name in _STEERING:
        if getattr(request, name) is not None and not getattr(capabilities, name):
            changes[name] = None
            notices.append(Notice(argument=name, message=f"{generator} does not support {name}; it was left out."))
    if (adapted := _adapted(request, capabilities)) is not None:
        changes["prompt"] = adapted.prompt
        if adapted.message:
            notices.append(Notice(argument="prompt", message=f"{generator} has a small vocabulary; {adapted.message}."))
    for name, value in _fitted_size(request, capabilities).items():
        asked = getattr(request, name)
        if asked != value:
            changes[name] = value
            notices.append(
                Notice(argument=name, message=f"{generator} does not support a {name} of {asked}; {value} was used.")
            )
    if strict and notices:
        raise UnsupportedRequestError(
            f"Generator {generator!r} cannot follow the request exactly: "
            + " ".join(notice.message for notice in notices),
            arguments=tuple(notice.argument for notice in notices),
        )
    return request.model_copy(update=changes), tuple(notices)


def recordable(executed: ImageRequest, capabilities: Capabilities) -> ImageRequest:
    """Remove from an executed request what the generator would refuse, so that a record can always be drawn again.

    Args:
        executed: The request that a generator reports as executed.
        capabilities: What the generator supports.

    Returns:
        The request without values that have no effect and without unknown options.
    """
    unread = {name: None for name in _STEERING if not getattr(capabilities, name)}
    known = {name: value for name, value in executed.options.items() if name in capabilities.options}
    return executed.model_copy(update={**unread, "options": known})


def _refusals(request: ImageRequest, capabilities: Capabilities) -> Iterator[tuple[str, str]]:
    if request.task not in capabilities.tasks:
        reason = capabilities.unsupported.get(request.task)
        able = ", ".join(sorted(capabilities.tasks))
        yield "task", f"task={request.task!r} is not supported; supported: {able}.{f' {reason}' if reason else ''}"
    if len(request.references) > capabilities.max_references:
        given, taken = len(request.references), capabilities.max_references
        yield "references", f"{given} reference picture(s) given; maximum: {taken}."
    unknown = sorted(request.options.keys() - capabilities.options)
    if unknown:
        known = ", ".join(sorted(capabilities.options)) or "none"
        yield "options", f"options {', '.join(map(repr, unknown))} are unknown; known: {known}."
    if (adapted := _adapted(request, capabilities)) is not None and not adapted.prompt:
        yield (
            "prompt",
            (
                f"The caption names nothing that it can draw ({adapted.message or 'no thing and no place'}). Use words "
                "from the list that `mgem generators NAME --things` prints, or use another generator."
            ),
        )


def _adapted(request: ImageRequest, capabilities: Capabilities) -> AdaptedCaption | None:
    """Map the caption onto the generator's vocabulary; None if the generator takes any caption."""
    if capabilities.vocabulary is None or request.task == "edit":
        return None
    return capabilities.vocabulary.adapt(request.prompt)


def with_start_size(
    request: ImageRequest, capabilities: Capabilities, start: tuple[int, int]
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Give a request without a size that of its start picture, if the generator draws only in certain sizes.

    Args:
        request: A request with a start picture.
        capabilities: What the generator supports.
        start: Width and height of the start picture.

    Returns:
        The request, with the nearest supported size, and a notice if the start picture is scaled out of proportion.
    """
    if not capabilities.sizes or request.width is not None or request.height is not None:
        return request, ()
    asked = request.model_copy(update={"width": start[0], "height": start[1]})
    size = _fitted_size(asked, capabilities)
    notices = []
    if size["width"] * start[1] != size["height"] * start[0]:
        message = (
            f"the start picture of {start[0]} × {start[1]} px was scaled to {size['width']} × {size['height']} px."
        )
        notices.append(Notice(argument="image", message=message))
    return request.model_copy(update=size), tuple(notices)


def _fitted_size(request: ImageRequest, capabilities: Capabilities) -> dict[str, int]:
    """Return the nearest supported width and height; empty if the request sets neither."""
    asked = {name: size for name in ("width", "height") if (size := getattr(request, name)) is not None}
    if not asked:
        return {}
    if capabilities.sizes:
        width, height = request.width or request.height or 0, request.height or request.width or 0
        nearest = min(
            capabilities.sizes,
            # The aspect ratio matters more than the number of pixels.
            key=lambda size: (abs(size[0] * height - size[1] * width) / (size[1] * height), abs(size[0] - width)),
        )
        return {"width": nearest[0], "height": nearest[1]}
    step = capabilities.size_multiple
    return {
        name: min(max(round(size / step) * step, capabilities.min_size), capabilities.max_size)
        for name, size in asked.items()
    }
