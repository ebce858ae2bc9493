"""What an answer consists of: text to read, captions to draw, and notices of what is not drawn.

Events are plain values, equal when they say the same, and turn into JSON and back by pydantic, told apart by `kind`.
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
    "abandoned_caption": "A caption began anew before it was closed; what stood before is not drawn.",
    "caption_closed_at_end": "The answer ended inside a caption, which is drawn as far as it goes.",
    "caption_cut": "A caption is too long; this ending is left out of the drawing.",
    "drawing_off": "Drawing is off; this caption is not drawn.",
    "empty_caption": "A caption has no words; nothing is drawn for it.",
    "stray_closing_tag": "A caption was closed that had not been opened.",
    "unclosed_caption": "The answer ended inside a caption, which is not drawn.",
}


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text for a person to read.

    Args:
        text: Never empty; as the model wrote it, without tags.
        kind: What this event is.
    """

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class CaptionOpened:
    """A caption begins.

    It ends with a :class:`CaptionClosed`, or with a notice of `abandoned_caption`, `empty_caption` or
    `unclosed_caption`.

    Args:
        kind: What this event is.
    """

    kind: Literal["caption_opened"] = "caption_opened"


@dataclass(frozen=True, slots=True)
class CaptionPiece:
    """More of the caption that is open.

    Args:
        text: Never empty; as the model wrote it, without tags.
        kind: What this event is.
    """

    text: str
    kind: Literal["caption_piece"] = "caption_piece"


@dataclass(frozen=True, slots=True)
class CaptionClosed:
    """A caption is complete and can be drawn.

    Args:
        caption: The whole caption, as :func:`clean_caption` leaves it: 1 to 10,000 characters in one line.
        kind: What this event is.
    """

    caption: str
    kind: Literal["caption_closed"] = "caption_closed"


@dataclass(frozen=True, slots=True)
class GenNotice:
    """Something in the answer is not drawn, or not as it stands.

    Args:
        reason: What it is.
        text: What it is about, without tags; empty for a tag.
        kind: What this event is.
    """

    reason: GenNoticeReason
    text: str = ""
    kind: Literal["notice"] = "notice"

    @property
    def message(self) -> str:
        """The reason, as a sentence for a person."""
        return _MESSAGES[self.reason]


GenEvent = TextPiece | CaptionOpened | CaptionPiece | CaptionClosed | GenNotice


def merged(events: Iterable[GenEvent]) -> list[GenEvent]:
    """Join neighbouring pieces of a text or a caption; what is left does not depend on how the answer was cut."""
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
    """Return the text that a person reads, untouched but for the tags and captions that are gone."""
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def readable_text(events: Iterable[GenEvent]) -> str:
    r"""Return the text that a person reads, without the blanks that captions leave behind.

    Where a caption or a stray tag was, the blanks before and after it become one gap: of as many line breaks as the
    wider of the two had, followed by the next line's indentation. Blanks at both ends of the answer go. All else stays.

    Args:
        events: Of a whole answer, merged or not.

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
    """Return the captions that are complete, in order."""
    return tuple(event.caption for event in events if isinstance(event, CaptionClosed))


def notices(events: Iterable[GenEvent]) -> tuple[GenNotice, ...]:
    """Return the notices, in order."""
    return tuple(event for event in events if isinstance(event, GenNotice))
