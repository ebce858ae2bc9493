"""Choose one of four ways to edit a picture, from the request and what the generator supports.

========================= =====================================================================================
`edit`                    a model that follows instructions redraws the picture
`inpaint`                 the area under the mask is redrawn; needs a mask
`image_to_image`          noise is added to the picture, as much as `strength` says, and removed again
`redraw`                  the picture's own request runs again with the same seed and the change in its prompt
========================= =====================================================================================

The arguments select the way: a mask `inpaint`, a strength `image_to_image`, an instruction alone `edit`. Another way
gives another kind of picture, so it is used only if the caller lists it as a fallback, and a notice reports it.
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
    """A request to edit a picture.

    Attributes:
        instruction: What to change; with a mask or a strength, what to draw.
        image: Id of the picture.
        mask: Id of the picture whose white parts alone are redrawn.
        strength: How much of the picture may change, above 0 and up to 1; for `inpaint` and `image_to_image`.
        references: Ids of pictures whose subject or style to keep.
        caption: Caption of the whole edited picture, for ways that cannot follow an instruction. By default, the prompt
            is the caption of `original`, if it is known, followed by the instruction.
        original: The executed request that made the picture; needed by `redraw`.
        negative_prompt: What not to draw.
        seed: Seed of the new picture; `redraw` keeps the seed of `original`.
        fallbacks: Ways to use if the generator does not support the requested one, in order of preference.

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
            raise ValueError(f"fallbacks is {value!r}, a string. Give a list, such as ('inpaint', 'image_to_image').")
        return value

    @property
    def way(self) -> EditWay:
        """The requested way."""
        if self.mask is not None:
            return "inpaint"
        return "edit" if self.strength is None else "image_to_image"

    @property
    def picture_ids(self) -> tuple[str, ...]:
        """Ids of all pictures that may be needed, without duplicates."""
        made_from = self.original.picture_ids if self.original is not None and "redraw" in self.fallbacks else ()
        named = (self.image, self.mask, *self.references, *made_from)
        return tuple(dict.fromkeys(name for name in named if name is not None))


class EditPlan(BaseModel):
    """The chosen way.

    Attributes:
        way: Name of the way.
        request: The request for the generator.
        notices: The differences from what was requested.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: EditWay
    request: ImageRequest
    notices: tuple[Notice, ...] = ()


def plan_edit(edit: EditRequest, capabilities: Capabilities, *, generator: str, strict: bool = False) -> EditPlan:
    """Choose the requested way, or else the first fallback that the generator supports.

    Args:
        edit: What to change.
        capabilities: What the generator supports.
        generator: Name of the generator, for messages.
        strict: Rule out a way for which an argument would be dropped or adapted.

    Raises:
        UnsupportedRequestError: If the generator supports none of the allowed ways.
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
    """Return a request that starts from the picture."""
    return ImageRequest(
        image=edit.image,
        references=edit.references,
        negative_prompt=edit.negative_prompt,
        seed=edit.seed,
        **fields,
    )


def _prompt(edit: EditRequest, way: EditWay) -> str:
    """Return the prompt for a way that cannot follow an instruction."""
    if way == edit.way:
        return edit.instruction
    if edit.caption is not None:
        return edit.caption
    if edit.original is None:
        return edit.instruction
    return f"{edit.original.prompt.rstrip(' .')}. {edit.instruction}"


def _notices(edit: EditRequest, way: EditWay, request: ImageRequest, generator: str) -> list[Notice]:
    said = f"{generator} does not support {edit.way!r}; {way!r} was used"
    said += "." if way == "edit" else f" with the prompt {request.prompt[:200]!r}."
    notices = [Notice(argument="task", message=said)]
    if edit.mask is not None and request.mask is None:
        notices.append(Notice(argument="mask", message=f"{way!r} uses no mask; the whole picture may have changed."))
    if edit.strength is not None and request.strength is None:
        notices.append(Notice(argument="strength", message=f"{way!r} uses no strength; it was left out."))
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
    hint = f"Allow another way (fallbacks={tuple(left)!r}) or use another generator."
    return (
        f"Generator {generator!r} cannot edit this picture. {' '.join(ruled_out)} It supports {able}, and at most "
        f"{capabilities.max_references} reference picture(s). {hint if left else 'Use another generator.'}"
    )


def _possible(way: EditWay, capabilities: Capabilities) -> bool:
    return way in capabilities.tasks or (way == "redraw" and "text_to_image" in capabilities.tasks)
