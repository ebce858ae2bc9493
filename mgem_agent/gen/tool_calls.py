"""Turn captions into tool calls: choose the captions to draw, and create the call for each.

A call is a dictionary in LangChain's format, created without LangChain. Its arguments are the validated fields of an
image request; null leaves the choice to the generator.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from pydantic import JsonValue, ValidationError

from mgem_agent.errors import InputError
from mgem_agent.gen.events import GenEvent, GenNotice, captions
from mgem_agent.gen.markup import clean_caption, cut_caption
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.tool_arguments import wrong_fields

__all__ = [
    "DRAW_TOOL_NAME",
    "DrawCall",
    "DrawMode",
    "DrawPlan",
    "check_draw_defaults",
    "new_call_id",
    "plan_drawing",
    "to_tool_call",
]

DRAW_TOOL_NAME: Literal["generate_image"] = "generate_image"

DrawMode = Literal["auto", "always", "never"]
"""When to draw: `auto`, if the model writes a caption; `always`, in every answer: the user's turn ends with `<GEN>`,
and a missing caption is requested from the model; `never`, even if the model writes captions."""


class DrawCall(TypedDict):
    """A tool call in LangChain's format.

    Attributes:
        name: Name of the tool.
        args: All fields of an image request, as JSON.
        id: Unique id of the call.
        type: Type of the dictionary.
    """

    name: Literal["generate_image"]
    args: dict[str, JsonValue]
    id: str
    type: Literal["tool_call"]


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """The captions of an answer to draw.

    Args:
        captions: Captions to draw, in order.
        notices: Notices about captions that are not drawn because of the mode.
        caption_missing: Whether a drawing is required but the answer has no caption, so that a second pass must get one
            from the model.
    """

    captions: tuple[str, ...]
    notices: tuple[GenNotice, ...] = ()
    caption_missing: bool = False


def plan_drawing(events: Iterable[GenEvent], mode: DrawMode) -> DrawPlan:
    """Choose the captions of an answer to draw.

    Captions are never part of the text for the user. Captions that are not drawn are in the notices.

    Args:
        events: All events of an answer.
        mode: When to draw.

    Raises:
        InputError: If the mode is unknown.
    """
    if mode not in get_args(DrawMode):
        raise InputError(f"There is no draw mode {mode!r}. Allowed: {', '.join(map(repr, get_args(DrawMode)))}.")
    found = captions(events)
    if mode == "never":
        return DrawPlan((), tuple(GenNotice("drawing_off", caption) for caption in found))
    return DrawPlan(found, caption_missing=mode == "always" and not found)


def new_call_id() -> str:
    """Return an id for a tool call."""
    return f"call_{uuid.uuid4().hex}"


def check_draw_defaults(defaults: Mapping[str, Any]) -> None:
    """Check the default values of drawings before anything is generated.

    Args:
        defaults: Fields of `ImageRequest` other than `prompt`.

    Raises:
        InputError: If a field is unknown or its value is not valid.
    """
    _request("a caption", defaults)


def to_tool_call(
    caption: str, *, defaults: Mapping[str, Any] | None = None, id_factory: Callable[[], str] = new_call_id
) -> DrawCall:
    """Create the tool call that draws a caption.

    Every complete caption from the parser is accepted.

    Args:
        caption: The caption; it is cleaned, and cut to 10,000 characters, as by the parser.
        defaults: Fields of `ImageRequest` other than `prompt`.
        id_factory: Returns the id of the call.

    Raises:
        InputError: If the caption is empty, or the defaults fail `check_draw_defaults`.

    Examples:
        >>> call = to_tool_call("a red fox", defaults={"seed": 7}, id_factory=lambda: "call_1")
        >>> call["name"], call["id"], call["args"]["prompt"], call["args"]["seed"], call["args"]["width"]
        ('generate_image', 'call_1', 'a red fox', 7, None)
    """
    prompt, _ = cut_caption(clean_caption(caption))
    if not prompt:
        raise InputError(f"The caption {caption!r:.80} is empty. Give a description of the picture.")
    args = _request(prompt, defaults or {}).model_dump(mode="json")
    return {"name": DRAW_TOOL_NAME, "args": args, "id": id_factory(), "type": "tool_call"}


def _request(prompt: str, defaults: Mapping[str, Any]) -> ImageRequest:
    allowed = [name for name in ImageRequest.model_fields if name != "prompt"]
    if strangers := sorted(set(defaults) - set(allowed)):
        raise InputError(
            f"Unknown drawing defaults: {', '.join(map(repr, strangers))}. Allowed: {', '.join(allowed)}; "
            "the prompt is the caption."
        )
    try:
        return ImageRequest(prompt=prompt, **defaults)
    except ValidationError as error:
        raise InputError(f"The drawing defaults are not valid. {wrong_fields(error)}.") from error
