"""The parts of an answer as events: text, captions to draw, and notices about what is not drawn.

Events are frozen dataclasses, compared by value and distinguished by `kind`. Pydantic converts them to JSON and back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CaptionClosed",
    "CaptionOpened",
    "CaptionPiece",
    "GenEvent",
    "GenNotice",
    "GenNoticeReason",
    "TextPiece",
    "captions",
    "merged",
    "notices",
    "readable_text",
    "visible_text",
]

GenNoticeReason = Literal[
    "abandoned_caption",
    "caption_closed_at_end",
    "caption_cut",
    "drawing_off",
    "empty_caption",
    "stray_closing_tag",
    "unclosed_caption",
]

_MESSAGES: dict[GenNoticeReason, str] = {
    "abandoned_caption": "A new caption began before this one was closed, so this one is not drawn.",
    "caption_closed_at_end": "The answer ended inside a caption. The incomplete caption is drawn.",
    "caption_cut": "A caption is too long. This end of it was cut off.",
    "drawing_off": "Drawing is off, so this caption is not drawn.",
    "empty_caption": "A caption is empty, so nothing is drawn for it.",
    "stray_closing_tag": "A caption was closed that had not been opened.",
    "unclosed_caption": "The answer ended inside a caption, so it is not drawn.",
}


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text for the user.

    Args:
        text: The model's text without tags; never empty.
        kind: Type of the event.
    """

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class CaptionOpened:
    """A caption begins.

    It ends with a `CaptionClosed`, or with a notice of `abandoned_caption`, `empty_caption` or `unclosed_caption`.

    Args:
        kind: Type of the event.
    """

    kind: Literal["caption_opened"] = "caption_opened"


@dataclass(frozen=True, slots=True)
class CaptionPiece:
    """A piece of the open caption.

    Args:
        text: The model's text without tags; never empty.
        kind: Type of the event.
    """

    text: str
    kind: Literal["caption_piece"] = "caption_piece"


@dataclass(frozen=True, slots=True)
class CaptionClosed:
    """A caption is complete and can be drawn.

    Args:
        caption: The complete caption after `clean_caption`: 1 to 10,000 characters in one line.
        kind: Type of the event.
    """

    caption: str
    kind: Literal["caption_closed"] = "caption_closed"


@dataclass(frozen=True, slots=True)
class GenNotice:
    """A part of the answer is not drawn, or is changed.

    Args:
        reason: The reason.
        text: The text in question, without tags; empty if it is only a tag.
        kind: Type of the event.
    """

    reason: GenNoticeReason
    text: str = ""
    kind: Literal["notice"] = "notice"

    @property
    def message(self) -> str:
        """The reason as a sentence for the user."""
        return _MESSAGES[self.reason]


GenEvent = TextPiece | CaptionOpened | CaptionPiece | CaptionClosed | GenNotice


def merged(events: Iterable[GenEvent]) -> list[GenEvent]:
    """Join adjacent pieces of a text or a caption, so that the result does not depend on how the answer was split."""
    joined: list[GenEvent] = []
    for kind, group in itertools.groupby(events, key=type):
        if kind is TextPiece:
            joined.append(TextPiece("".join(event.text for event in group if isinstance(event, TextPiece))))
        elif kind is CaptionPiece:
            joined.append(CaptionPiece("".join(event.text for event in group if isinstance(event, CaptionPiece))))
        else:
            joined.extend(group)
    return joined


def visible_text(events: Iterable[GenEvent]) -> str:
    """Return the text for the user, with tags and captions removed and everything else unchanged."""
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def readable_text(events: Iterable[GenEvent]) -> str:
    r"""Return the text for the user, without the whitespace that removed captions leave behind.

    The whitespace before and after a removed caption or tag is joined: it keeps the larger number of line breaks of the
    two, followed by the next line's indentation. Whitespace at both ends of the answer is removed. Everything else is
    unchanged.

    Args:
        events: All events of an answer, merged or not.

    Examples:
        >>> readable_text([TextPiece("A fox.\n\n"), CaptionClosed("a red fox"), TextPiece("\n\nIt is red.")])
        'A fox.\n\nIt is red.'
    """
    pieces: list[str] = []
    gap = ""
    for event in merged(events):
        if not isinstance(event, TextPiece):
            continue
        body = event.text.strip()
        if not body:
            gap = _wider(gap, event.text)
            continue
        before, _, after = event.text.partition(body)
        pieces += (_wider(gap, before), body)
        gap = after
    return "".join(pieces).strip()


def _wider(left: str, right: str) -> str:
    num_breaks = max(left.count("\n"), right.count("\n"))
    if not num_breaks:
        return max(left, right, key=len)
    return "\n" * num_breaks + (right.rpartition("\n")[2] if "\n" in right else "")


def captions(events: Iterable[GenEvent]) -> tuple[str, ...]:
    """Return the complete captions in order."""
    return tuple(event.caption for event in events if isinstance(event, CaptionClosed))


def notices(events: Iterable[GenEvent]) -> tuple[GenNotice, ...]:
    """Return the notices in order."""
    return tuple(event for event in events if isinstance(event, GenNotice))
