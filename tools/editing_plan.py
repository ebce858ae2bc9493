"""How a picture is changed: by which of four ways, given what is asked for and what the generator can do.

========================= =====================================================================================
`edit`                    a model that obeys an instruction redraws the picture
`inpaint`                 what the mask covers is redrawn; needs a mask
`image_to_image`          the picture is noised, as much as `strength` says, and drawn anew
`redraw`                  the request that made it is drawn again, same seed, with what is to change in its prompt
========================= =====================================================================================

What is given says which way is meant: a mask `inpaint`, a strength `image_to_image`, an instruction alone `edit`.
Another way gives another kind of picture, so it is taken only where the caller names it, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mgem_agent.errors import InputError, UnsupportedRequestError
from mgem_agent.tools.capabilities import Capabilities, Notice, negotiate
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["EditPlan", "EditRequest", "EditWay", "plan_edit"]

EditWay = Literal["edit", "inpaint", "image_to_image", "redraw"]


class EditRequest(BaseModel):
    """A picture that is to be changed.

    Attributes:
        instruction: What to change; with a mask or a strength, what to draw.
        image: Id of the picture.
        mask: Id of the picture whose white parts alone are redrawn.
        strength: How much of the picture may change, above 0 and up to 1; for `inpaint` and `image_to_image`.
        references: Ids of pictures whose subject or style is to be kept.
        caption: What the whole picture shows afterwards, for ways that draw from a caption and obey no instruction.
            If not given, they are prompted by the caption of `original`, where that is known, and the instruction.
        original: The executed request that made the picture; needed by `redraw`.
        negative_prompt: What not to draw.
        seed: Seed of the new picture; `redraw` keeps that of `original`.
        fallbacks: Ways that may be taken where the generator cannot do what is meant, the preferred one first.

    Examples:
        >>> EditRequest(instruction="make it night", image="img-1").way
        'edit'
        >>> EditRequest(instruction="a moon", image="img-1", mask="img-2").way
        'inpaint'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str = Field(min_length=1, max_length=10_000)
    image: str
    mask: str | None = None
    strength: float | None = Field(default=None, gt=0, le=1)
    references: tuple[str, ...] = ()
    caption: str | None = Field(default=None, min_length=1, max_length=10_000)
    original: ImageRequest | None = None
    negative_prompt: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    fallbacks: tuple[EditWay, ...] = ()

    @field_validator("instruction", "caption", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @field_validator("fallbacks", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"fallbacks is {value!r}, one word. Give a list, such as ('inpaint', 'image_to_image').")
        return value

    @property
    def way(self) -> EditWay:
        """The way that is meant."""
        if self.mask is not None:
            return "inpaint"
        return "edit" if self.strength is None else "image_to_image"

    @property
    def picture_ids(self) -> tuple[str, ...]:
        """Ids of every picture that may be needed, without repetition."""
        made_from = self.original.picture_ids if self.original is not None and "redraw" in self.fallbacks else ()
        named = (self.image, self.mask, *self.references, *made_from)
        return tuple(dict.fromkeys(name for name in named if name is not None))


class EditPlan(BaseModel):
    """The way that is taken.

    Attributes:
        way: Which it is.
        request: What the generator is asked for.
        notices: What is not as it was meant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: EditWay
    request: ImageRequest
    notices: tuple[Notice, ...] = ()


def plan_edit(edit: EditRequest, capabilities: Capabilities, *, generator: str, strict: bool = False) -> EditPlan:
    """Choose the way: the one that is meant, else the first of the fallbacks that the generator can go.

    Args:
        edit: What is to be changed.
        capabilities: What the generator can do.
        generator: Its name, for messages.
        strict: Whether an argument that the generator would leave out or adapt rules a way out.

    Raises:
        UnsupportedRequestError: If none of the ways that are allowed can be gone.
    """
    ruled_out: list[str] = []
    for way in dict.fromkeys((edit.way, *edit.fallbacks)):
        try:
            request = _REQUESTS[way](edit)
            negotiate(request, capabilities, generator=generator, strict=strict)
        except (InputError, ValidationError) as error:
            ruled_out.append(f"{way}: {_reason(error)}")
            continue
        notices = () if way == edit.way else tuple(_notices(edit, way, request, generator))
        return EditPlan(way=way, request=request, notices=notices)
    raise UnsupportedRequestError(_refusal(edit, capabilities, generator, ruled_out), arguments=("task",))


def _edit(edit: EditRequest) -> ImageRequest:
    return _started(edit, task="edit", prompt=edit.instruction)


def _inpaint(edit: EditRequest) -> ImageRequest:
    if edit.mask is None:
        raise InputError("It needs a mask.")
    return _started(edit, task="inpaint", prompt=_prompt(edit, "inpaint"), mask=edit.mask, strength=edit.strength)


def _image_to_image(edit: EditRequest) -> ImageRequest:
    return _started(edit, task="image_to_image", prompt=_prompt(edit, "image_to_image"), strength=edit.strength)


def _redraw(edit: EditRequest) -> ImageRequest:
    if edit.original is None:
        raise InputError("It needs `original`, the request that made the picture.")
    changes: dict[str, Any] = {"prompt": _prompt(edit, "redraw")}
    if edit.original.seed is None:
        changes["seed"] = edit.seed
    if edit.negative_prompt is not None:
        changes["negative_prompt"] = edit.negative_prompt
    if edit.references:
        changes["references"] = edit.references
    return ImageRequest.model_validate(edit.original.model_dump() | changes)


_REQUESTS: dict[EditWay, Callable[[EditRequest], ImageRequest]] = {
    "edit": _edit,
    "inpaint": _inpaint,
    "image_to_image": _image_to_image,
    "redraw": _redraw,
}


def _started(edit: EditRequest, **fields: Any) -> ImageRequest:
    """A request that starts from the picture."""
    return ImageRequest(
        image=edit.image,
        references=edit.references,
        negative_prompt=edit.negative_prompt,
        seed=edit.seed,
        **fields,
    )


def _prompt(edit: EditRequest, way: EditWay) -> str:
    """What a way that obeys no instruction is prompted by."""
    if way == edit.way:
        return edit.instruction
    if edit.caption is not None:
        return edit.caption
    if edit.original is None:
        return edit.instruction
    return f"{edit.original.prompt.rstrip(' .')}. {edit.instruction}"


def _notices(edit: EditRequest, way: EditWay, request: ImageRequest, generator: str) -> list[Notice]:
    said = f"{generator} cannot do this by {edit.way!r}; {way!r} was used"
    said += "." if way == "edit" else f", prompted by {request.prompt[:200]!r}."
    notices = [Notice(argument="task", message=said)]
    if edit.mask is not None and request.mask is None:
        notices.append(Notice(argument="mask", message=f"{way!r} has no mask; the whole picture may have changed."))
    if edit.strength is not None and request.strength is None:
        notices.append(Notice(argument="strength", message=f"{way!r} has no strength; it was left out."))
    if edit.seed is not None and request.seed != edit.seed:
        notices.append(Notice(argument="seed", message=f"{way!r} keeps the picture's own seed, {request.seed}."))
    return notices


def _reason(error: InputError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"] + "."
    return str(error).partition("cannot do this: ")[2] or str(error)


def _refusal(edit: EditRequest, capabilities: Capabilities, generator: str, ruled_out: list[str]) -> str:
    able = ", ".join(sorted(capabilities.tasks))
    left = [way for way in get_args(EditWay) if way not in (edit.way, *edit.fallbacks) and _possible(way, capabilities)]
    hint = f"Allow another way (fallbacks={tuple(left)!r}) or take another generator."
    return (
        f"Generator {generator!r} cannot change this picture. {' '.join(ruled_out)} It can do {able}, and takes "
        f"{capabilities.max_references} reference picture(s). {hint if left else 'Take another generator.'}"
    )


def _possible(way: EditWay, capabilities: Capabilities) -> bool:
    return way in capabilities.tasks or (way == "redraw" and "text_to_image" in capabilities.tasks)
