"""The format of a stored picture's id; no other module checks it.

Only a full match is an id. `img-001.png`, `IMG-20240101-WA0003.jpg` and `img-x/../a.png` are treated as file names.
"""

from __future__ import annotations

import re

__all__ = ["is_picture_id", "picture_id_digits"]

PREFIX = "img-"
DIGITS = re.compile(r"[0-9a-f]{4,64}")


def is_picture_id(text: object) -> bool:
    """Whether text is an id, or the beginning of one: `img-` and 4 to 64 hexadecimal digits in lower case.

    Args:
        text: Any value; only a string can be an id.

    Examples:
        >>> [is_picture_id(text) for text in ("img-0123abcd", "img-001.png", "IMG-0123ABCD", "img-0123/../a")]
        [True, False, False, False]
    """
    return isinstance(text, str) and text.startswith(PREFIX) and picture_id_digits(text) is not None


def picture_id_digits(text: str) -> str | None:
    """Return the digits of an id; None if the text is not an id.

    Args:
        text: An id, with or without `img-`.
    """
    digits = text.removeprefix(PREFIX)
    return digits if DIGITS.fullmatch(digits) else None
