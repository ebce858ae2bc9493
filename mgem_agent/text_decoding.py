"""Decode text from outside once, where it enters: standard input, arguments, files, answers.

A byte-order mark sets the encoding; without one it is UTF-8. Invalid bytes are replaced by U+FFFD, with a notice.
Lone surrogates, which cannot be encoded, are replaced too, and surrogate pairs are joined.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

__all__ = ["SURROGATE", "SurrogateJoiner", "clean_text", "decode_text"]

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SURROGATE = re.compile("[\ud800-\udfff]")
"""A surrogate code point: half of a UTF-16 pair."""


class DecodedText(NamedTuple):
    """Decoded text with an optional notice.

    Attributes:
        text: Text without surrogates.
        notice: Notice for the user; None if all bytes were valid.
    """

    text: str
    notice: str | None


def decode_text(data: bytes, source: str) -> DecodedText:
    r"""Decode bytes from outside.

    Args:
        data: The complete data.
        source: What the bytes are, as the start of a sentence, such as "Standard input".

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
            f"{source} is not valid {encoding.upper()} at byte {error.start}. Invalid bytes were replaced by '\ufffd'."
        )
        return DecodedText(text, notice)


def clean_text(text: str) -> str:
    r"""Return text without surrogates: pairs are joined, and lone ones become U+FFFD.

    Examples:
        >>> clean_text("\ud83e\udd8a and \ud83e")
        '🦊 and �'
    """
    if SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")


class SurrogateJoiner:
    r"""Apply `clean_text` to text that arrives in pieces, which may split a surrogate pair.

    Examples:
        >>> joiner = SurrogateJoiner()
        >>> joiner.feed("a \ud83e") + joiner.feed("\udd8a") + joiner.finish()
        'a 🦊'
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Add a piece, and return the text that is complete."""
        text = self._held + piece
        self._held = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return clean_text(text.removesuffix(self._held) if self._held else text)

    def finish(self) -> str:
        """Return the rest."""
        held, self._held = self._held, ""
        return clean_text(held)
