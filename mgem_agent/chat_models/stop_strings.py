"""End an answer before the first stop string, however the answer is split into pieces."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopStrings", "held_length"]


class StopStrings:
    """Passes the text of an answer up to the first stop string.

    Args:
        strings: Stop strings; empty ones are ignored.

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
        """Read the next piece, and return the text that is certain to be before any stop string."""
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
        """End the answer, and return the held text."""
        held, self._held = self._held, ""
        return held


def held_length(text: str, mark: str) -> int:
    """Return the number of characters at the end of a text that may be the beginning of a mark."""
    longest = min(len(text), len(mark) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)
