"""Ends an answer before the first of some texts, wherever the pieces of the answer are cut."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopStrings", "held_length"]


class StopStrings:
    """Reads an answer and lets through what stands before the first stop string.

    Args:
        strings: Texts that end an answer and are not part of it; empty ones do nothing.

    Examples:
        >>> stops = StopStrings(["END"])
        >>> stops.feed("all is well. E"), stops.feed("ND and more"), stops.is_over
        ('all is well. ', '', True)
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = [string for string in strings if string]
        self.is_over = False
        self._held = ""

    def feed(self, piece: str) -> str:
        """Read more, and return what is certain to stand before every stop string."""
        if self.is_over:
            return ""
        text = self._held + piece
        found = [at for string in self.strings if (at := text.find(string)) >= 0]
        if found:
            self.is_over, self._held = True, ""
            return text[: min(found)]
        cut = len(text) - max((held_length(text, string) for string in self.strings), default=0)
        self._held = text[cut:]
        return text[:cut]

    def close(self) -> str:
        """End the answer, and return what was held back."""
        held, self._held = self._held, ""
        return held


def held_length(text: str, mark: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a mark."""
    longest = min(len(text), len(mark) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)
