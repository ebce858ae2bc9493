"""The `<GEN>` protocol: what a model writes, taken apart into what a person reads and what is to be drawn.

A model asks for a picture in plain text, with a caption between `<h>` and `</h>`; `<GEN>`, at the end of the user's
turn, is what asks the model for one (Mini-Gemini, "Text and Image Generation"). Decisions that matter:

- **The text comes in pieces, and where it is cut changes nothing.** Only an ending that may still become a tag is held
  back; all else leaves with the piece that brought it. Time is linear in the text, whatever is in it.
- **Tags are read generously**: in any case, with blanks between their parts, so `< H >` is one and `<h1>`, `<hr>` and
  `a < h` are text. The price is that `a < h > b` reads as a tag. `</GEN>`, which nobody was taught, is one too.
- **All closed captions count, in order.** A second `<h>` inside a caption begins it anew, as in the authors' CLI, which
  takes what follows the last `<h>`; what stood before is in a notice.
- **A person never reads a tag.** `<GEN>` is dropped in silence, a stray `</h>` with a notice. Of a tag that would only
  come together by dropping another, `<` and then `h>` around a `<GEN>`, what has not been shown yet is dropped as well.
- **No other text is lost, reordered or changed**: texts, pieces of captions and tags make up the input.
  :func:`readable_text` mends the blanks around the captions that are gone, for those who want that.
- **Nothing a model writes is an error.** What cannot be drawn gives a notice that carries the text.
"""

from __future__ import annotations

import re

from mgem_agent.gen.events import (
    CaptionClosed,
    CaptionOpened,
    CaptionPiece,
    GenEvent,
    GenNotice,
    GenNoticeReason,
    TextPiece,
    captions,
    merged,
    notices,
    readable_text,
    visible_text,
)
from mgem_agent.gen.markup import (
    MAX_CAPTION_LENGTH,
    clean_caption,
    cut_caption,
    neutralize_tags,
    render_assistant_turn,
)

__all__ = [
    "MAX_CAPTION_LENGTH",
    "CaptionClosed",
    "CaptionOpened",
    "CaptionPiece",
    "GenEvent",
    "GenNotice",
    "GenNoticeReason",
    "GenProtocolParser",
    "TextPiece",
    "captions",
    "clean_caption",
    "cut_caption",
    "merged",
    "neutralize_tags",
    "notices",
    "parse",
    "readable_text",
    "render_assistant_turn",
    "visible_text",
]

_CANDIDATE = re.compile(r"<\s*+(?:/\s*+)?(?:(?:[hH]|[gG][eE][nN])\s*+(?:>|\Z)|[gG][eE]?\Z|\Z)")
"""A tag, or the beginning of one where the text ends. No part is tried twice, so that a search takes linear time."""

_CONTINUATION = re.compile(r"[\s/hHgGeEnN]*+>?")
"""All that can follow the beginning of a tag within that tag, and more."""

# Events are plain values, so those that are always alike need not be made a million times.
_OPENED = CaptionOpened()
_STRAY = GenNotice("stray_closing_tag")
_BEGUN_TWICE = GenNotice("abandoned_caption")


class GenProtocolParser:
    """Reads an answer piece by piece.

    Args:
        close_at_end: Whether a caption that is still open at the end is drawn, which suits an answer that was cut off
            by its limit of tokens. A notice says so; half a tag at the very end is then not part of the caption.

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
        self._key = ""  # the tag that may be coming: its beginning, as `_key_of` writes it
        self._held: list[str] = []  # its characters, which have not gone out
        self._whole = True  # whether those are all of its characters; else a dropped tag lies between them
        self._tail = ""  # what has gone out ends with this beginning of a tag
        self._text_tail = ""  # the same of the text around the caption that is open
        self._caption: list[str] | None = None  # pieces of the caption that is open

    def feed(self, piece: str) -> list[GenEvent]:
        """Read more of the answer.

        Args:
            piece: Any text, of any length.

        Returns:
            What is certain now. Neighbouring events may be of one kind; :func:`merged` joins them.
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
        """End the answer; the next piece begins another.

        Returns:
            What was held back, and what becomes of a caption that is still open.
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
        """Go on with a tag whose beginning came before, and return where to read on."""
        read = _CONTINUATION.match(piece, at)
        more = read[0] if read else ""
        found = _CANDIDATE.fullmatch(self._key + more)
        at += len(more)
        if found and (at == len(piece) or more.endswith(">")):
            self._take(more, _key_of(found[0]), events)
            return at
        # It is no tag. Should the next one begin right here and be dropped, then what follows that follows this.
        self._tail = _key_of(found[0]) if found and piece[at] == "<" else ""
        self._write("".join(self._held) + more, events)
        self._held.clear()
        self._key = ""
        return at

    def _take(self, characters: str, key: str, events: list[GenEvent]) -> None:
        """Hold the beginning of a tag; drop a tag that is complete, and do what it says if it is whole."""
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
    """Return a tag, or the beginning of one, in lower case and without blanks."""
    return "".join(tag.split()).lower()


def _tail_of(text: str, start: int, end: int) -> str:
    """Return the beginning of a tag with which a part of the text ends, as `_key_of` writes it."""
    last = text.rfind("<", start, end)
    found = _CANDIDATE.fullmatch(text, last, end) if last >= 0 else None
    return _key_of(found[0]) if found else ""


def parse(text: str, *, close_at_end: bool = False) -> list[GenEvent]:
    """Read a whole answer.

    Args:
        text: The answer.
        close_at_end: As in :class:`GenProtocolParser`.

    Returns:
        The events, no two neighbours of them pieces of one text or caption.
    """
    parser = GenProtocolParser(close_at_end=close_at_end)
    return merged([*parser.feed(text), *parser.close()])
