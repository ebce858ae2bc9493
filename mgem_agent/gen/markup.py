"""Tags and captions as text: render them for the history, clean captions for drawing, neutralize tags in user input."""

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
"""Maximum length of a caption, which is that of an image request's prompt."""

_TAG = re.compile(r"<(\s*+(?:/\s*+)?(?:[hH]|[gG][eE][nN])\s*+)>")
"""The parser's tags in a complete text. They never overlap: a tag has one `<` and one `>`, at its ends."""


def clean_caption(text: str) -> str:
    """Return a caption as one line of printable characters without tags, as it is drawn and saved.

    Line breaks, control characters and repeated spaces become one space, because models are trained on one-line
    captions. Tags that form only after this are neutralized. Joiners within emoji and words are kept. The result may be
    empty, and may be longer than an image request allows.
    """
    return neutralize_tags(" ".join(printable_text(text).split()))


def cut_caption(caption: str) -> tuple[str, str]:
    """Split a clean caption into at most 10,000 characters to draw, and the rest, which is usually empty.

    It is split between words, unless a word is longer than half of the limit.
    """
    if len(caption) <= MAX_CAPTION_LENGTH:
        return caption, ""
    blank = caption.rfind(" ", MAX_CAPTION_LENGTH // 2, MAX_CAPTION_LENGTH + 1)
    end = blank if blank >= 0 else MAX_CAPTION_LENGTH
    return caption[:end], caption[end:].strip()


def neutralize_tags(text: str) -> str:
    """Replace the angle brackets of tags by square ones, so that tags in user input have no effect.

    A user's `<GEN>` would trigger a drawing, and `<h>x</h>` in the history would be read as a caption.

    Examples:
        >>> neutralize_tags("What does <h> mean, and <h1>?")
        'What does [h] mean, and <h1>?'
    """
    return _TAG.sub(r"[\1]", text)


def render_assistant_turn(text: str, captions: Sequence[str] = ()) -> str:
    """Render an answer for the history, in the form that models are trained on.

    Parsing the result gives the same captions, and the same text except for whitespace at its ends.

    Args:
        text: The text for the user.
        captions: The captions; empty ones are left out.

    Returns:
        The text followed by each caption, separated by spaces: `text <h> caption </h>`.

    Examples:
        >>> render_assistant_turn("Here it is:", ["a red fox"])
        'Here it is: <h> a red fox </h>'
    """
    spans = [f"<h> {caption} </h>" for caption in map(clean_caption, captions) if caption]
    return " ".join(filter(None, [neutralize_tags(text).strip(), *spans]))
