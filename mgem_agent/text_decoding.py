"""Text from outside, decoded once where it comes in: standard input, arguments, files, answers.

A byte-order mark says the encoding; without one it is UTF-8. What is neither is replaced by U+FFFD, with a notice.
Half characters (lone surrogates), which no encoder takes, are replaced too, and two halves are joined.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

__all__ = ["SURROGATE", "DecodedText", "SurrogateJoiner", "clean_text", "decode_text"]

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins as that one does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character."""


class DecodedText(NamedTuple):
    """Text, and what a person should know of it.

    Attributes:
        text: Text that every encoder takes.
        notice: A sentence, or None if every byte was read.
    """

    text: str
    notice: str | None


def decode_text(data: bytes, source: str) -> DecodedText:
    r"""Decode bytes that came from outside.

    Args:
        data: All of them.
        source: What they are, as the start of a sentence, such as "Standard input".

    Examples:
        >>> decode_text(b"\xef\xbb\xbfhello", "Standard input").text
        'hello'
    """
    mark, encoding = next((each for each in MARKS if data.startswith(each[0])), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        return DecodedText(data.decode(encoding), None)
    except UnicodeDecodeError as error:
        text = data.decode(encoding, errors="replace")
        notice = (
            f"{source} is not {encoding.upper()} at byte {error.start}. What cannot be read was replaced by '\ufffd'."
        )
        return DecodedText(text, notice)


def clean_text(text: str) -> str:
    r"""Return text without half characters: two halves become one character, a lone one U+FFFD.

    Examples:
        >>> clean_text("\ud83e\udd8a and \ud83e")
        '🦊 and �'
    """
    if SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")


class SurrogateJoiner:
    r"""`clean_text` for text that comes in pieces, which may cut a character in two.

    Examples:
        >>> joiner = SurrogateJoiner()
        >>> joiner.feed("a \ud83e") + joiner.feed("\udd8a") + joiner.finish()
        'a 🦊'
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Add a piece, and return what is complete."""
        text = self._held + piece
        self._held = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return clean_text(text.removesuffix(self._held) if self._held else text)

    def finish(self) -> str:
        """Return what is left."""
        held, self._held = self._held, ""
        return clean_text(held)
