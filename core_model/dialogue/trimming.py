"""A text that comes in pieces, without white space at either end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["trimmed"]


def trimmed(pieces: Iterable[str]) -> Iterator[str]:
    """Strip white space before the first and after the last word; yield no empty piece.

    Args:
        pieces: The pieces of a text.
    """
    held = ""
    has_begun = False
    for piece in pieces:
        text = held + piece if has_begun else piece.lstrip()
        body = text.rstrip()
        held = text[len(body) :]
        if body:
            has_begun = True
            yield body
