"""`readable_text`, as it comes: the same text, from events that arrive one at a time."""

from __future__ import annotations

from mgem_agent.gen.events import CaptionOpened, GenEvent, TextPiece, readable_text

__all__ = ["ReadableStream"]


class ReadableStream:
    """Writes what a person reads. Blanks wait for the word that follows them, since a caption may come in between.

    Joined, what it returns is what :func:`mgem_agent.gen.events.readable_text` returns for all events.

    Examples:
        >>> stream = ReadableStream()
        >>> [stream.feed(TextPiece("A fox. ")), stream.feed(CaptionOpened()), stream.feed(TextPiece(" Red."))]
        ['A fox.', '', ' Red.']
    """

    def __init__(self) -> None:
        self._has_begun = False
        self._gap: str | None = None  # blanks before a caption; None where none has come since the last word
        self._blanks = ""  # at the end of the text that is being read

    def feed(self, event: GenEvent) -> str:
        """Take an event, and return the text that is certain now; it may be empty."""
        if not isinstance(event, TextPiece):
            self._gap = self._blanks if self._gap is None else _joined(self._gap, self._blanks)
            self._blanks = ""
            return ""
        text = self._blanks + event.text
        body = text.strip()
        if not body:
            self._blanks = text
            return ""
        before, _, self._blanks = text.partition(body)
        lead = before if self._gap is None else _joined(self._gap, before)
        self._gap = None
        shown = lead + body if self._has_begun else body
        self._has_begun = True
        return shown


def _joined(left: str, right: str) -> str:
    """Return the blanks that are left of those before and after a caption."""
    return readable_text([TextPiece("." + left), CaptionOpened(), TextPiece(right + ".")])[1:-1]
