"""The `<GEN>` protocol: separate a model's output into text for the user and captions to draw.

A model requests a picture in plain text, with a caption between `<h>` and `</h>`. `<GEN>` at the end of the user's turn
asks the model for a picture (Mini-Gemini, "Text and Image Generation"). Key decisions:

- **The result does not depend on how the text is split into pieces.** Only an ending that may become a tag is held
  back; all other text is returned at once. The time is linear in the text.
- **Tags are matched leniently**: in any case and with whitespace between their parts, so `< H >` is a tag, while
  `<h1>`, `<hr>` and `a < h` are text. A drawback is that `a < h > b` contains a tag. `</GEN>` is also a tag.
- **All closed captions count, in order.** A second `<h>` inside a caption restarts it, as in the authors' CLI, which
  takes the text after the last `<h>`. The dropped text is in a notice.
- **The user never sees a tag.** `<GEN>` is dropped silently, a stray `</h>` with a notice. If dropping a tag would form
  a new one, such as `<` and `h>` around a `<GEN>`, the part not shown yet is dropped too.
- **No other text is lost, reordered or changed**: texts, caption pieces and tags together are the input.
  `readable_text` also cleans up the whitespace around removed captions.
- **Nothing that a model writes is an error.** Text that cannot be drawn is returned in a notice.
"""

from __future__ import annotations

import re

from mgem_agent.gen.events import (
    CaptionClosed,
    CaptionOpened,
    CaptionPiece,
    GenEvent,
    GenNotice,
    TextPiece,
    merged,
)
from mgem_agent.gen.markup import (
    clean_caption,
    cut_caption,
)

__all__ = ["GenProtocolParser", "parse"]

_CANDIDATE = re.compile(r"<\s*+(?:/\s*+)?(?:(?:[hH]|[gG][eE][nN])\s*+(?:>|\Z)|[gG][eE]?\Z|\Z)")
"""A tag, or the beginning of one at the end of the text. There is no backtracking, so a search takes linear time."""

_CONTINUATION = re.compile(r"[\s/hHgGeEnN]*+>?")
"""A superset of the characters that can continue a tag."""

# Events are immutable, so constant ones are created once.
_OPENED = CaptionOpened()
_STRAY = GenNotice("stray_closing_tag")
_BEGUN_TWICE = GenNotice("abandoned_caption")


class GenProtocolParser:
    """Parses an answer piece by piece.

    Args:
        close_at_end: Whether to draw a caption that is still open at the end, with a notice; useful for an answer that
            reached its token limit. An incomplete tag at the end is then not part of the caption.

    Examples:
        >>> parser = GenProtocolParser()
        >>> parser.feed("Here it is: <")
        [TextPiece(text='Here it is: ', kind='text')]
        >>> [event.kind for event in parser.feed("h> a red fox </h>")]
        ['caption_opened', 'caption_piece', 'caption_closed']
        >>> parser.close()
        []
    """

    def __init__(self, *, close_at_end: bool = False) -> None:
        self.close_at_end = close_at_end
        self._reset()

    def _reset(self) -> None:
        self._key = ""  # the beginning of a possible tag, normalized by `_key_of`
        self._held: list[str] = []  # its characters, which have not been returned
        self._whole = True  # whether its characters are contiguous; if not, a dropped tag was between them
        self._tail = ""  # the returned text ends with this beginning of a tag
        self._text_tail = ""  # the same for the text before the open caption
        self._caption: list[str] | None = None  # pieces of the open caption

    def feed(self, piece: str) -> list[GenEvent]:
        """Parse the next piece of the answer.

        Args:
            piece: Text of any length.

        Returns:
            The events that are certain now. Adjacent events may have the same type; `merged` joins them.
        """
        events: list[GenEvent] = []
        at = 0
        while at < len(piece):
            if self._key:
                at = self._resume(piece, at, events)
                continue
            found = _CANDIDATE.search(piece, at)
            mark = found.start() if found else len(piece)
            if at < mark:
                self._write(piece[at:mark], events)
                self._tail = _tail_of(piece, at, mark)
            at = mark
            if found:
                at = found.end()
                self._whole = True
                self._take(found[0], _key_of(found[0]), events)
        return events

    def close(self) -> list[GenEvent]:
        """End the answer; the next piece begins a new one.

        Returns:
            Events for the text that was held back and for a caption that is still open.
        """
        events: list[GenEvent] = []
        held = "".join(self._held)
        if self._caption is None:
            self._write(held, events)
        elif self.close_at_end and clean_caption(caption := "".join(self._caption)):
            events.append(GenNotice("caption_closed_at_end", caption + held))
            self._close_caption(events)
        else:
            self._write(held, events)
            events.append(GenNotice("unclosed_caption", "".join(self._caption)))
        self._reset()
        return events

    def _resume(self, piece: str, at: int, events: list[GenEvent]) -> int:
        """Continue a tag that began in an earlier piece, and return the position to continue at."""
        read = _CONTINUATION.match(piece, at)
        more = read[0] if read else ""
        found = _CANDIDATE.fullmatch(self._key + more)
        at += len(more)
        if found and (at == len(piece) or more.endswith(">")):
            self._take(more, _key_of(found[0]), events)
            return at
        # It is not a tag. If the next tag begins here and is dropped, the text after it follows this text.
        self._tail = _key_of(found[0]) if found and piece[at] == "<" else ""
        self._write("".join(self._held) + more, events)
        self._held.clear()
        self._key = ""
        return at

    def _take(self, characters: str, key: str, events: list[GenEvent]) -> None:
        """Hold the beginning of a tag. Drop a complete tag, and act on it if it was contiguous."""
        if not key.endswith(">"):
            self._held.append(characters)
            self._key = key
            return
        if self._whole and key == "<h>":
            self._open_caption(events)
        elif self._whole and key == "</h>":
            self._close_caption(events)
        self._held.clear()
        self._key, self._whole = self._tail, False

    def _open_caption(self, events: list[GenEvent]) -> None:
        if self._caption is None:
            self._text_tail = self._tail
        else:
            text = "".join(self._caption)
            events.append(GenNotice("abandoned_caption", text) if text else _BEGUN_TWICE)
        events.append(_OPENED)
        self._caption, self._tail = [], ""

    def _close_caption(self, events: list[GenEvent]) -> None:
        if self._caption is None:
            events.append(_STRAY)
            return
        text = "".join(self._caption)
        caption = clean_caption(text)
        if not caption:
            events.append(GenNotice("empty_caption", text))
        else:
            kept, rest = cut_caption(caption)
            if rest:
                events.append(GenNotice("caption_cut", rest))
            events.append(CaptionClosed(kept))
        self._caption, self._tail = None, self._text_tail

    def _write(self, text: str, events: list[GenEvent]) -> None:
        if not text:
            return
        if self._caption is None:
            events.append(TextPiece(text))
        else:
            self._caption.append(text)
            events.append(CaptionPiece(text))


def _key_of(tag: str) -> str:
    """Return a tag, or the beginning of one, in lower case and without whitespace."""
    return "".join(tag.split()).lower()


def _tail_of(text: str, start: int, end: int) -> str:
    """Return the beginning of a tag at the end of a part of the text, normalized by `_key_of`."""
    last = text.rfind("<", start, end)
    found = _CANDIDATE.fullmatch(text, last, end) if last >= 0 else None
    return _key_of(found[0]) if found else ""


def parse(text: str, *, close_at_end: bool = False) -> list[GenEvent]:
    """Parse a complete answer.

    Args:
        text: The answer.
        close_at_end: As for `GenProtocolParser`.

    Returns:
        The events, with adjacent pieces joined.
    """
    parser = GenProtocolParser(close_at_end=close_at_end)
    return merged([*parser.feed(text), *parser.close()])
