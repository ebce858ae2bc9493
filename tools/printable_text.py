"""Remove control characters from prompts, captions and terminal output.

Joiners (U+200C and U+200D) are not blanks: they join several people into one emoji of a family, and separate letters in
Persian and Indic words. They are kept between two letters or pictographs and removed elsewhere.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["printable_text", "terminal_text"]

JOINERS = "\u200c\u200d"
_JOINED = "LMS"
"""Classes of what joiners join: letters, marks such as the one that asks for an emoji's colours, and symbols."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # a colour, or a movement of the cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # a title, a link, the clipboard
)
"""Escape sequences that a terminal interprets."""
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Single characters that a terminal interprets, and those that change the direction of writing."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def terminal_text(text: str) -> str:
    r"""Remove the control sequences of a terminal; line ends, tabs and all visible characters are kept.

    Examples:
        >>> terminal_text("\x1b]0;title\x07a \x1b[31mred\x1b[0m fox\n")
        'a red fox\n'
    """
    if text.isprintable():
        return text
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _OBEYED.sub("", text))


def printable_text(text: str, *, keep: str = "") -> str:
    r"""Replace each control character with a blank, and remove joiners that do not join letters or pictographs.

    Args:
        text: Any text.
        keep: Control characters to keep, such as "\n".

    Examples:
        >>> printable_text("a red\x00fox")
        'a red fox'
    """
    if text.isprintable():
        return text
    if any(joiner in text for joiner in JOINERS):
        text = "".join(sign for place, sign in enumerate(text) if sign not in JOINERS or _joins(text, place))
    return "".join(sign if sign.isprintable() or sign in JOINERS or sign in keep else " " for sign in text)


def _joins(text: str, place: int) -> bool:
    """Whether the characters on both sides of an index can be joined."""
    sides = text[place - 1 : place], text[place + 1 : place + 2]
    # No ASCII symbol: `<` and `>` belong to tags.
    return all(side.isalpha() or (not side.isascii() and unicodedata.category(side)[0] in _JOINED) for side in sides)
