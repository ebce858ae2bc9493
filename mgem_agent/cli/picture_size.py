"""Read a picture size such as 1024x768."""

from __future__ import annotations

import re

__all__ = ["read_size"]

SIZE = re.compile(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})", re.IGNORECASE)


def read_size(text: str) -> tuple[int, int]:
    """Give a size as WIDTHxHEIGHT, in pixels, such as 1024x768.

    Raises:
        ValueError: If the text is not a size.

    Examples:
        >>> read_size("1024x768")
        (1024, 768)
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size. Give WIDTHxHEIGHT in pixels, such as 1024x768.")
    return int(match[1]), int(match[2])
