"""The arguments of a model's call that draws or edits a picture, and the request made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue, ValidationError

from mgem_agent.errors import InputError
from mgem_agent.tools.editing_plan import EditRequest
from mgem_agent.tools.image_request import ImageRequest, ImageTask
from mgem_agent.tools.tool_arguments import NamedPicture, ToolArguments, explain_arguments
from mgem_agent.tools.tool_schema import shared_schema

__all__ = ["CaptionArguments", "DrawArguments", "EditArguments", "Seed", "read_draw_arguments"]


def _bounds(field: str) -> dict[str, Any]:
    """Return the bounds of a request's field, for the schema; the request itself checks them."""
    schema = shared_schema(ImageRequest.model_json_schema())["properties"][field]
    return {name: schema[name] for name in ("minimum", "maximum")}


NegativePrompt = Annotated[str | None, Field(description="What not to draw.")]
Width = Annotated[
    int | None,
    Field(description="In pixels; leave out for the generator's default.", json_schema_extra=_bounds("width")),
]
Height = Annotated[
    int | None,
    Field(description="In pixels; leave out for the generator's default.", json_schema_extra=_bounds("height")),
]
Seed = Annotated[
    int | None,
    Field(
        description="The same seed draws the same picture; leave out for a random seed.",
        json_schema_extra=_bounds("seed"),
    ),
]


class CaptionArguments(ToolArguments):
    """Arguments to draw a picture from a prompt."""

    prompt: Annotated[str, Field(description="A full caption: subject, setting, style.")]
    negative_prompt: NegativePrompt = None
    width: Width = None
    height: Height = None
    seed: Seed = None

    def request(self, defaults: Mapping[str, Any]) -> tuple[ImageRequest, tuple[str, ...]]:
        """Return the request for the generator, and sentences that name what was left out.

        If no task is given, it follows from the other arguments: a mask means `inpaint`, a strength `image_to_image`, a
        picture alone `edit`. A strength without a picture is left out.

        Args:
            defaults: Values for fields that the call does not set.

        Raises:
            InputError: If the arguments contradict each other or are out of range.
        """
        names = [name for name in ImageRequest.model_fields if getattr(self, name, None) is not None]
        fields = {**defaults, **{name: getattr(self, name) for name in names}}
        notices = list(self.notices)
        strength, picture = fields.get("strength"), fields.get("image")
        if strength is not None and (picture is None or (strength == 1 and fields.get("task") in (None, "edit"))):
            if fields.get("mask") is None:
                del fields["strength"]
                if strength != 1:
                    notices.append(f"The strength {strength:g} was left out: there is no picture to start from.")
        if picture is not None and "task" not in fields:
            changed = "image_to_image" if fields.get("strength") is not None else "edit"
            fields["task"] = "inpaint" if fields.get("mask") is not None else changed
        try:
            return ImageRequest(**fields), tuple(notices)
        except ValidationError as error:
            raise InputError(explain_arguments(error)) from error


class DrawArguments(CaptionArguments):
    """Arguments to draw a picture from a prompt or from other pictures."""

    hidden_fields: ClassVar[frozenset[str]] = frozenset({"num_inference_steps", "guidance_scale", "options"})

    task: Annotated[ImageTask | None, Field(description="The task; leave out to draw from the prompt alone.")] = None
    image: Annotated[str | None, Field(description="Id of the picture to start from.")] = None
    mask: Annotated[str | None, Field(description="Id of the mask; its white parts are redrawn.")] = None
    strength: Annotated[
        float | None,
        Field(description="How much of the start picture may change, up to 1.", json_schema_extra=_bounds("strength")),
    ] = None
    references: Annotated[list[str] | None, Field(description="Ids of pictures whose subject or style to keep.")] = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    options: dict[str, JsonValue] | None = None


class EditArguments(ToolArguments):
    """Arguments to edit a picture."""

    image: Annotated[NamedPicture, Field(description="The picture to change: its id (img-…) or a data URL.")]
    instruction: Annotated[str, Field(description="What to change; with a mask or strength, what to draw.")]
    mask: Annotated[NamedPicture | None, Field(description="The mask; only its white parts are redrawn.")] = None
    strength: Annotated[
        float | None,
        Field(
            description="From 0 to 1, how much of the picture may change; leave out to follow the instruction.",
            json_schema_extra=_bounds("strength"),
        ),
    ] = None
    references: Annotated[list[NamedPicture] | None, Field(description="Pictures whose subject or style to keep.")] = (
        None
    )
    caption: Annotated[
        str | None,
        Field(description="Caption of the whole edited picture, for generators that cannot follow an instruction."),
    ] = None
    negative_prompt: NegativePrompt = None
    seed: Seed = None

    def request(self, stored: Callable[[Any], str], **known: Any) -> EditRequest:
        """Return the edit request.

        A strength of 1 without a mask would discard the whole picture, so it counts as left out.

        Args:
            stored: Stores a named picture and returns its id.
            **known: Fields of the request that the caller sets, not the model.

        Raises:
            InputError: If the arguments contradict each other or are out of range, or a picture may not be read.
        """
        is_complete = self.strength == 1 and self.mask is None
        fields: dict[str, Any] = {
            "instruction": self.instruction,
            "image": stored(self.image),
            "mask": None if self.mask is None else stored(self.mask),
            "strength": None if is_complete else self.strength,
            "references": tuple(stored(each) for each in self.references or ()),
            "caption": self.caption,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
        }
        try:
            return EditRequest(**fields, **known)
        except ValidationError as error:
            raise InputError(explain_arguments(error)) from error


def read_draw_arguments(args: Any, defaults: Mapping[str, Any]) -> tuple[ImageRequest, tuple[str, ...]]:
    """Read the arguments of a model's call to draw a picture.

    Args:
        args: The arguments of the call, or their JSON.
        defaults: Values for fields that the call does not set.

    Returns:
        The request, and sentences that name what was left out.

    Raises:
        InputError: If the arguments are not valid; the message is written for the model.
    """
    try:
        return DrawArguments.model_validate(args).request(defaults)
    except ValidationError as error:
        raise InputError(explain_arguments(error)) from error
