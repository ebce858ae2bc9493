"""Tags and captions as text: written for the history, cleaned for the drawing, disarmed where a user typed them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mgem_agent.tools.printable_text import printable_text

__all__ = [
    "MAX_CAPTION_LENGTH",
    "clean_caption",
    "cut_caption",
    "neutralize_tags",
    "render_assistant_turn",
]

MAX_CAPTION_LENGTH = 10_000
"""Characters of a caption that are drawn: as many as an image request's prompt may have."""

_TAG = re.compile(r"<(\s*+(?:/\s*+)?(?:[hH]|[gG][eE][nN])\s*+)>")
"""The same tags in a text that is there as a whole. They never overlap: a tag has one `<` and one `>`, at its ends."""


def clean_caption(text: str) -> str:
    """Return a caption as it is drawn and remembered: one line of printable characters, without tags.

    Line breaks, control characters and runs of blanks become one blank, since models are taught captions of one line;
    what reads as a tag only then is neutralised. Joiners stay within emoji and words. It may be empty, and longer than
    an image request allows.
    """
    return neutralize_tags(" ".join(printable_text(text).split()))


def cut_caption(caption: str) -> tuple[str, str]:
    """Divide a clean caption into what is drawn, at most 10,000 characters, and the rest, which is usually empty.

    It is cut between words unless a word is longer than half of that.
    """
    if len(caption) <= MAX_CAPTION_LENGTH:
        return caption, ""
    blank = caption.rfind(" ", MAX_CAPTION_LENGTH // 2, MAX_CAPTION_LENGTH + 1)
    end = blank if blank >= 0 else MAX_CAPTION_LENGTH
    return caption[:end], caption[end:].strip()


def neutralize_tags(text: str) -> str:
    """Write tags with square brackets, so that they do nothing: for what a user types, above all.

    A user's `<GEN>` would trigger a drawing, and `<h>x</h>` in the history would pass for a caption. All else stays.

    Examples:
        >>> neutralize_tags("What does <h> mean, and <h1>?")
        'What does [h] mean, and <h1>?'
    """
    return _TAG.sub(r"[\1]", text)


def render_assistant_turn(text: str, captions: Sequence[str] = ()) -> str:
    """Write an answer as models are taught it, for the history that later rounds read.

    Reading it gives the same text, but for blanks at its ends, and the same captions; so does rendering that again.

    Args:
        text: What a person read.
        captions: What was drawn; those without words are left out.

    Returns:
        The text and then each caption, a blank between any two: `text <h> caption </h>`.

    Examples:
        >>> render_assistant_turn("Here it is:", ["a red fox"])
        'Here it is: <h> a red fox </h>'
    """
    spans = [f"<h> {caption} </h>" for caption in map(clean_caption, captions) if caption]
    return " ".join(filter(None, [neutralize_tags(text).strip(), *spans]))
