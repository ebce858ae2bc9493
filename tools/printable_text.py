"""Text without what nobody draws and every terminal obeys: prompts and captions, and what is shown on a terminal.

Joiners (U+200C and U+200D) are no blanks: they make one family of three people, and part the letters of Persian and
Indic words. They stay where they stand between two letters or pictographs, and go elsewhere.
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
"""What terminals obey as a whole."""
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Single characters that a terminal obeys, those that turn the direction of writing among them."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def terminal_text(text: str) -> str:
    r"""Take out what a terminal would obey; line ends, tabs and every visible character stay, also joined emoji.

    Examples:
        >>> terminal_text("\x1b]0;title\x07a \x1b[31mred\x1b[0m fox\n")
        'a red fox\n'
    """
    if text.isprintable():
        return text
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _OBEYED.sub("", text))


def printable_text(text: str, *, keep: str = "") -> str:
    r"""Put a blank for each control character, and take out joiners that join nothing.

    Args:
        text: Any text.
        keep: Control characters that stay, such as "\n".

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
    """Whether what stands on both sides of a place can be joined."""
    sides = text[place - 1 : place], text[place + 1 : place + 2]
    # No symbol of ASCII: `<` and `>` are those of tags.
    return all(side.isalpha() or (not side.isascii() and unicodedata.category(side)[0] in _JOINED) for side in sides)
