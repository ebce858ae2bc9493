"""A prompt or a caption without what nobody draws and every terminal obeys.

Joiners (U+200C and U+200D) are no blanks: they make one family of three people, and part the letters of Persian and
Indic words. They stay where they stand between two letters or pictographs, and go elsewhere.
"""

from __future__ import annotations

import unicodedata

__all__ = ["printable_text"]

JOINERS = "\u200c\u200d"
_JOINED = "LMS"
"""Classes of what joiners join: letters, marks such as the one that asks for an emoji's colours, and symbols."""


def printable_text(text: str, *, keep: str = "") -> str:
    r"""Put a blank for each control character, and take out joiners that join nothing.

    Args:
        text: Any text.
        keep: Control characters that stay, such as "\n".

    Example:
        >>> printable_text("a red\x00fox")
        'a red fox'
    """
    if text.isprintable():
        return text
    if any(joiner in text for joiner in JOINERS):
        text = "".join(sign for place, sign in enumerate(text) if sign not in JOINERS or _joins(text, place))
    return "".join(sign if sign.isprintable() or sign in JOINERS or sign in keep else " " for sign in text)


def _joins(text: str, place: int) -> bool:
    """Whether what stands on both sides of a place can be joined."""
    sides = text[place - 1 : place], text[place + 1 : place + 2]
    # No symbol of ASCII: `<` and `>` are those of tags.
    return all(side.isalpha() or (not side.isascii() and unicodedata.category(side)[0] in _JOINED) for side in sides)
