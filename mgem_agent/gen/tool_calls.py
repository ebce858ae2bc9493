"""From captions to tool calls: which captions of an answer are drawn, and the call that draws one.

A call is a dictionary in LangChain's form, made without LangChain, and its arguments are those of an image request,
checked by it, with null for what the generator may choose.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from pydantic import JsonValue, ValidationError

from mgem_agent.errors import InputError
from mgem_agent.gen.parser import (
    GenEvent,
    GenNotice,
    captions,
    clean_caption,
    cut_caption,
)
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
"""When an answer is drawn: `auto`, when the model asks for it; `always`, also when it does not, for which the user's
turn ends with the trigger and a missing caption is asked for; `never`, not even then."""


class DrawCall(TypedDict):
    """A tool call, as LangChain's messages hold it.

    Attributes:
        name: The tool.
        args: Every field of an image request, as JSON.
        id: Unlike any other call's.
        type: What this dictionary is.
    """

    name: Literal["generate_image"]
    args: dict[str, JsonValue]
    id: str
    type: Literal["tool_call"]


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """What of an answer is drawn.

    Args:
        captions: What is drawn, in order.
        notices: What is not drawn because of the mode.
        caption_missing: Whether a drawing was asked for and the answer has no caption, so that one must be got from
            the model in a second pass.
    """

    captions: tuple[str, ...]
    notices: tuple[GenNotice, ...] = ()
    caption_missing: bool = False


def plan_drawing(events: Iterable[GenEvent], mode: DrawMode) -> DrawPlan:
    """Say which captions of an answer are drawn.

    Captions never stand in the text that a person reads, drawn or not; those that are not are in the notices.

    Args:
        events: Of a whole answer.
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
    """Check what every drawing is given besides its caption, before anything is generated.

    Args:
        defaults: Fields of :class:`ImageRequest` other than `prompt`.

    Raises:
        InputError: If a field is unknown or its value is refused.
    """
    _request("a caption", defaults)


def to_tool_call(
    caption: str, *, defaults: Mapping[str, Any] | None = None, id_factory: Callable[[], str] = new_call_id
) -> DrawCall:
    """Make the tool call that draws a caption.

    No caption that the parser calls complete is refused, whatever is in it.

    Args:
        caption: What to draw; cleaned, and cut to 10,000 characters, as the parser does.
        defaults: Fields of :class:`ImageRequest` other than `prompt`.
        id_factory: Makes the call's id.

    Raises:
        InputError: If the caption has no words, or the defaults do not pass :func:`check_draw_defaults`.

    Examples:
        >>> call = to_tool_call("a red fox", defaults={"seed": 7}, id_factory=lambda: "call_1")
        >>> call["name"], call["id"], call["args"]["prompt"], call["args"]["seed"], call["args"]["width"]
        ('generate_image', 'call_1', 'a red fox', 7, None)
    """
    prompt, _ = cut_caption(clean_caption(caption))
    if not prompt:
        raise InputError(
            f"The caption {caption!r:.80} has no words. Draw only captions that the parser calls complete."
        )
    args = _request(prompt, defaults or {}).model_dump(mode="json")
    return {"name": DRAW_TOOL_NAME, "args": args, "id": id_factory(), "type": "tool_call"}


def _request(prompt: str, defaults: Mapping[str, Any]) -> ImageRequest:
    allowed = [name for name in ImageRequest.model_fields if name != "prompt"]
    if strangers := sorted(set(defaults) - set(allowed)):
        raise InputError(
            f"The drawing defaults have {', '.join(map(repr, strangers))}. Allowed: {', '.join(allowed)}; "
            "the prompt is the caption."
        )
    try:
        return ImageRequest(prompt=prompt, **defaults)
    except ValidationError as error:
        raise InputError(f"The drawing defaults do not make an image request. {wrong_fields(error)}.") from error
