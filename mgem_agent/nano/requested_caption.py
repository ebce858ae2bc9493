"""Read what a user wants drawn, as the beginning of nano's caption.

A small model loses details when it repeats a request: "Draw a cat wearing a crown in the snow" became "a cat in the
snow". So if a request describes the picture completely, the caption begins with that description, and the model adds
light and style. A request that refers to something else ("draw it again", "the same in blue"), that has several
sentences, or that asks for something else, too, is left to the model. Only English requests are read.
"""

from __future__ import annotations

import re

__all__ = ["read_description"]

_MAX_WORDS = 24

_POLITE = r"(?:(?:please|kindly|now|then|so|and|okay|ok|hey|hi|hello|nano|well|next)\b[,!]?\s+)*"
_ASK = r"(?:(?:can|could|would|will) you\s+|i want you to\s+|i'd like you to\s+|let's\s+)?(?:please\s+|kindly\s+)?"
_DRAW = r"(?:draw|sketch|illustrate|paint|doodle|depict|visuali[sz]e)\s+"
_MAKE = (
    r"(?:make|create|generate|give|send|produce|show|get|(?:i want|i need|i'd like|i would like)(?: to see)?|"
    r"(?:can|could|may) (?:i|we) (?:have|get|see)|let (?:me|us) see)\s+"
)
_FOR = r"(?:(?:me|us|for me|for us)\s+)*"
_A_PICTURE = (
    r"(?:an?\s+(?:\w+\s+){0,2})?(?:picture|pic|image|photo|drawing|painting|sketch|illustration)\s+(?:of|showing)\s+"
)
_REQUEST = re.compile(
    rf"^{_POLITE}(?:{_ASK}(?:{_DRAW}{_FOR}(?:{_A_PICTURE})?|{_MAKE}{_FOR}{_A_PICTURE}|show\s+(?:me|us)\s+)|{_A_PICTURE})"
)
_END = re.compile(
    r"(?:[\s,]+(?:please|for me|for us|thanks|thank you|now|next|would you|will you|can you))*[\s.!?,…]*$"
)
_SEVERAL = re.compile(r"[.!?;:\n\"“”]")
_ELSEWHERE = re.compile(
    r"\b(?:it|him|them|he|she|they|this|that|these|those|same|again|another|other|one|ones|previous|last|earlier|"
    r"before|instead|like|what|something|anything|nothing|else|story|scene|"
    r"(?:picture|pic|image|photo|drawing|painting|sketch|illustration)s?|you|your|me|my|us|our)\b"
)
_MORE = re.compile(
    r"\b(?:don't|not|never|(?:and|then|but) (?:please )?(?:also |then )?(?:tell|write|explain|describe|say|give|show|"
    r"draw|paint|make|ask|sing|answer|name|list|call|add|put|keep|use))\b"
)
_INDEFINITE = re.compile(r"(?:an?|some|two|three|four|five|six|seven|eight|nine|ten|\d+|several|many)\s|\w+s\b")


def read_description(text: str, *, is_first: bool = True) -> str:
    """Return the description of the picture that a message asks for; empty if it cannot be read completely.

    Args:
        text: The user's message.
        is_first: Whether nothing was said before, so that "the sea" refers to nothing.

    Examples:
        >>> read_description("Please draw me a cat wearing a crown in the snow!")
        'a cat wearing a crown in the snow'
        >>> read_description("Draw it again.")
        ''
    """
    plain = " ".join(text.replace("’", "'").split())
    found = _REQUEST.match(plain.lower())
    if found is None:
        return ""
    wanted = _END.sub("", plain[found.end() :])
    low = wanted.lower()
    if not wanted or len(wanted.split()) > _MAX_WORDS or not plain.isascii():
        return ""
    if _SEVERAL.search(wanted) or _ELSEWHERE.search(low) or _MORE.search(low):
        return ""
    starts_well = _INDEFINITE.match(low) or (is_first and low.startswith("the "))
    return wanted if starts_well else ""
