"""What a client may ask of a picture, in the words of OpenAI's API, and what a generator makes of it.

The images routes and the tool `image_generation` of the responses route share these fields. A field that a generator
has as an option is passed on. One that it does not have is an error if it changes the picture's meaning (a transparent
background, high input fidelity), and otherwise a notice in the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.picture_output import PictureFormat
from mgem_agent.tools.capabilities import Capabilities, Notice

__all__ = ["PictureWishes", "read_fields"]

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192
PASSED_ON = ("quality", "style", "moderation", "complexity", "background", "input_fidelity")
AS_ALWAYS = {"quality": "standard", "background": "opaque", "input_fidelity": "low", "moderation": "low"}
"""Values that every generator honours without doing anything."""

NEEDED = frozenset({"background", "input_fidelity"})
NOT_DRAWN = ("svg", "frame_count", "frame_duration_ms", "markup")

Fields = TypeVar("Fields", bound=BaseModel)


class PictureWishes(BaseModel):
    """Fields of a request for pictures. None leaves the choice to the generator.

    Attributes:
        model: Name of the generator.
        size: `auto`, or width and height in pixels, such as `1024x1536`.
        quality: Passed on to a generator that has this option.
        style: As for `quality`.
        moderation: As for `quality`.
        complexity: As for `quality`.
        background: As for `quality`; `transparent` needs a generator that has it.
        input_fidelity: As for `quality`; `high` needs a generator that has it.
        output_format: Format of the pictures in the response.
        output_compression: Quality from 0 to 100, for JPEG and WebP.
        partial_images: Number of unfinished pictures in a stream.
        seed: Seed of the first picture; the next ones have the next seeds. Not a field of OpenAI's API, like the rest.
        negative_prompt: What not to draw.
        num_inference_steps: Denoising steps.
        guidance_scale: Weight of classifier-free guidance.
        strength: How much of the start picture may change, above 0 and up to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    size: str | None = None
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"] | None = None
    style: Literal["vivid", "natural"] | None = None
    moderation: Literal["low", "auto"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    input_fidelity: Literal["high", "low"] | None = None
    output_format: Literal["png", "jpeg", "webp", "gif", "svg"] | None = None
    output_compression: int | None = Field(default=None, ge=0, le=100)
    partial_images: int | None = Field(default=None, ge=0, le=3)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    negative_prompt: str | None = Field(default=None, max_length=10_000)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    strength: float | None = Field(default=None, gt=0, le=1)
    svg: Any = None
    frame_count: Any = None
    frame_duration_ms: Any = None
    markup: Any = None

    @property
    def format(self) -> PictureFormat:
        """Format of the pictures in the response.

        Raises:
            UnsupportedRequestError: If pictures are not drawn in this format.
        """
        kind = self.output_format or "png"
        named = [name for name in NOT_DRAWN if getattr(self, name) is not None]
        if kind in ("gif", "svg") or named:
            what = f"output_format={kind!r}" if kind in ("gif", "svg") else named[0]
            raise UnsupportedRequestError(
                f"{what} is not supported: pictures are single PNG, JPEG or WebP pictures. Leave it out, or set "
                "output_format to 'png', 'jpeg' or 'webp'.",
                arguments=("output_format" if kind in ("gif", "svg") else named[0],),
            )
        return PictureFormat(kind, self.output_compression)  # type: ignore[arg-type]

    def request_fields(self) -> dict[str, Any]:
        """Return the fields of an `ImageRequest` that the client has set.

        Raises:
            InvalidRequestError: If the size cannot be read.
        """
        names = ("seed", "negative_prompt", "num_inference_steps", "guidance_scale", "strength")
        fields = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.size is None or self.size == "auto":
            return fields
        match = SIZE.fullmatch(self.size.strip().lower())
        sides = [int(side) for side in match.groups()] if match else []
        if not sides or not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in sides):
            raise InvalidRequestError(
                f"size={self.size[:40]!r} is not valid. Give 'auto', or WIDTHxHEIGHT in pixels, each from "
                f"{MIN_SIDE_PX} to {MAX_SIDE_PX}, such as '1024x1024'.",
                param="size",
            )
        return fields | {"width": sides[0], "height": sides[1]}

    def options_for(self, capabilities: Capabilities, *, generator: str) -> tuple[dict[str, Any], tuple[Notice, ...]]:
        """Return the options to pass on to a generator, and a notice for each field that it does not have.

        Args:
            capabilities: What the generator supports.
            generator: Name of the generator, for messages.

        Raises:
            UnsupportedRequestError: If the generator lacks a field that changes the picture's meaning.
        """
        options: dict[str, Any] = {}
        notices = []
        for name in PASSED_ON:
            value = getattr(self, name)
            if value in (None, "auto"):
                continue
            if name in capabilities.options:
                options[name] = value
            elif name in NEEDED and value != AS_ALWAYS[name]:
                raise UnsupportedRequestError(
                    f"Generator {generator!r} does not support {name}={value!r}. Leave it out, or use another "
                    "generator.",
                    arguments=(name,),
                )
            elif value != AS_ALWAYS.get(name):
                notices.append(Notice(argument=name, message=f"{generator} has no {name}; it was left out."))
        return options, tuple(notices)


def read_fields(kind: type[Fields], given: Mapping[str, Any], *, where: str = "") -> Fields:
    """Validate the fields of a request. Fields that are null count as not given.

    Args:
        kind: The model of the fields.
        given: Fields by name.
        where: Name of the field that contains them, for messages; empty for the request itself.

    Raises:
        InvalidRequestError: If a field is unknown, missing or not valid.
    """
    try:
        return kind.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in ((where,) if where else ()) + first["loc"][:3])
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(kind.model_fields))
            message = f"There is no field {name[:200]!r}. Known fields: {known}."
        elif first["type"] == "missing":
            message = f"The field {name!r} is missing. Add it."
        else:
            reason = first["msg"].removeprefix("Value error, ").rstrip(".")
            message = f"{name}={repr(first['input'])[:200]} is not valid: {reason}."
        raise InvalidRequestError(message, param=name[:200]) from None
