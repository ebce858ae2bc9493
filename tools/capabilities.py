"""What an image generator can do, and what becomes of a request that asks for more.

Nothing is swallowed. What changes the meaning of the picture (the task, its pictures, options nobody knows) is refused;
what only steers it (a negative prompt, guidance, steps, a seed, an exact size) is dropped or adapted with a notice that
travels in the result. A caption is mapped onto the vocabulary of a generator that has one, and the notice names what is
left out. `strict=True` refuses those as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.redaction import redact
from mgem_agent.tools.image_request import ImageRequest, ImageTask
from mgem_agent.tools.vocabulary import AdaptedCaption, Vocabulary

__all__ = ["Capabilities", "Notice", "negotiate", "recordable"]


class Notice(BaseModel):
    """An argument that was not honoured as given.

    Attributes:
        argument: Name of the request's field.
        message: What was asked for and what was done instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    argument: str
    message: Annotated[str, AfterValidator(redact)]


class Capabilities(BaseModel):
    """What a generator honours.

    Attributes:
        tasks: Tasks it can do.
        negative_prompt: Whether it honours one.
        seed: Whether the same seed gives the same picture.
        num_inference_steps: Whether the steps can be chosen.
        guidance_scale: Whether it can be chosen.
        strength: Whether it can be chosen.
        max_references: Pictures it takes as references; 0 for none.
        sizes: The only sizes (width, height) it draws; empty for any.
        size_multiple: Width and height are multiples of this, in pixels.
        min_size: Smallest side, in pixels.
        max_size: Largest side, in pixels.
        max_batch_size: Pictures it draws at once; None for as many as fit.
        progress: Whether it reports steps.
        cancel: Whether a running drawing can be stopped.
        options: Names it understands in `ImageRequest.options`.
        vocabulary: All the things and places that it can draw, where they are few; None for a model that reads freely.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: frozenset[ImageTask] = frozenset({"text_to_image"})
    negative_prompt: bool = False
    seed: bool = False
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
    options: frozenset[str] = frozenset()
    vocabulary: Vocabulary | None = None


_STEERING = ("negative_prompt", "seed", "num_inference_steps", "guidance_scale", "strength")


def negotiate(
    request: ImageRequest, capabilities: Capabilities, *, generator: str, strict: bool = False
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Fit a request to what a generator can do.

    Args:
        request: What is asked for.
        capabilities: What the generator can do.
        generator: Its name, for messages.
        strict: Whether an argument that would be dropped or adapted is refused instead.

    Returns:
        The request as the generator can honour it, and a notice for each argument that was changed.

    Raises:
        UnsupportedRequestError: If the generator cannot do the task, take the pictures or understand an option; with
            `strict`, also for anything a notice would be given for.
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
            notices.append(Notice(argument=name, message=f"{generator} does not use {name}; it was left out."))
    if (adapted := _adapted(request, capabilities)) is not None:
        changes["prompt"] = adapted.prompt
        if adapted.message:
            notices.append(Notice(argument="prompt", message=f"{generator} knows few words; {adapted.message}."))
    for name, value in _fitted_size(request, capabilities).items():
        asked = getattr(request, name)
        if asked != value:
            changes[name] = value
            notices.append(Notice(argument=name, message=f"{generator} draws no {name} of {asked}; {value} was used."))
    if strict and notices:
        raise UnsupportedRequestError(
            f"Generator {generator!r} would not honour the request: " + " ".join(notice.message for notice in notices),
            arguments=tuple(notice.argument for notice in notices),
        )
    return request.model_copy(update=changes), tuple(notices)


def recordable(executed: ImageRequest, capabilities: Capabilities) -> ImageRequest:
    """Leave out of an executed request what the generator would refuse, so that a record can always be asked again.

    Args:
        executed: What a generator says it did.
        capabilities: What it can do.

    Returns:
        The request without values that have no effect there, and without options that it does not know.
    """
    unread = {name: None for name in _STEERING if not getattr(capabilities, name)}
    known = {name: value for name, value in executed.options.items() if name in capabilities.options}
    return executed.model_copy(update={**unread, "options": known})


def _refusals(request: ImageRequest, capabilities: Capabilities) -> Iterator[tuple[str, str]]:
    if request.task not in capabilities.tasks:
        yield "task", f"task={request.task!r} is not among {', '.join(sorted(capabilities.tasks))}."
    if len(request.references) > capabilities.max_references:
        given, taken = len(request.references), capabilities.max_references
        yield "references", f"{given} reference picture(s) given, {taken} taken."
    unknown = sorted(request.options.keys() - capabilities.options)
    if unknown:
        known = ", ".join(sorted(capabilities.options)) or "none"
        yield "options", f"options {', '.join(map(repr, unknown))} are unknown; known: {known}."
    if (adapted := _adapted(request, capabilities)) is not None and not adapted.prompt:
        yield (
            "prompt",
            (
                f"It knows nothing that the caption names ({adapted.message or 'no thing and no place'}). Use words "
                "that it knows, listed by: mgem generators NAME --things; or take another generator."
            ),
        )


def _adapted(request: ImageRequest, capabilities: Capabilities) -> AdaptedCaption | None:
    """The caption as a generator of few words can draw it; None where any caption will do."""
    if capabilities.vocabulary is None or request.task == "edit":
        return None
    return capabilities.vocabulary.adapt(request.prompt)


def _fitted_size(request: ImageRequest, capabilities: Capabilities) -> dict[str, int]:
    """Nearest width and height that can be drawn, for what was asked; empty where nothing was."""
    asked = {name: size for name in ("width", "height") if (size := getattr(request, name)) is not None}
    if not asked:
        return {}
    if capabilities.sizes:
        width, height = request.width or request.height or 0, request.height or request.width or 0
        nearest = min(
            capabilities.sizes,
            # The shape matters more than the number of pixels.
            key=lambda size: (abs(size[0] * height - size[1] * width) / (size[1] * height), abs(size[0] - width)),
        )
        return {"width": nearest[0], "height": nearest[1]}
    step = capabilities.size_multiple
    return {
        name: min(max(round(size / step) * step, capabilities.min_size), capabilities.max_size)
        for name, size in asked.items()
    }
