"""A streaming version of `readable_text`."""

from __future__ import annotations

from mgem_agent.gen.events import CaptionOpened, GenEvent, TextPiece, readable_text

__all__ = ["ReadableStream"]


class ReadableStream:
    """Returns the text for the user event by event. The joined results equal `readable_text` of all events.

    Whitespace is held until the next word, because a caption may follow.

    Examples:
        >>> stream = ReadableStream()
        >>> [stream.feed(TextPiece("A fox. ")), stream.feed(CaptionOpened()), stream.feed(TextPiece(" Red."))]
        ['A fox.', '', ' Red.']
    """

    def __init__(self) -> None:
        self._has_begun = False
        self._gap: str | None = None  # whitespace before a caption; None if there was no caption since the last word
        self._blanks = ""  # whitespace at the end of the current text

    def feed(self, event: GenEvent) -> str:
        """Process an event, and return the text that is certain now, which may be empty."""
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
    """Return the joined whitespace from before and after a caption."""
    return readable_text([TextPiece("." + left), CaptionOpened(), TextPiece(right + ".")])[1:-1]
