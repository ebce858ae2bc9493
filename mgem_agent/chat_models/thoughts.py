"""Remove a model's thinking from its answer before the answer is parsed.

Reasoning models write their thinking between `<think>` and `</think>`. Some servers put the opening tag into the
prompt, so that only a bare `</think>` arrives; then everything before it is thinking. A tag after a backtick is text.
Reasoning that a provider sends in separate blocks is not handled here.
"""

from __future__ import annotations

import re
from typing import Any

from mgem_agent.chat_models.stop_strings import held_length

__all__ = ["THOUGHT_END", "ThoughtReader", "text_without_thoughts", "thinks_by_name", "without_thoughts"]

THOUGHT_END = "</think>"

_MARKS = ("<think>", "</think>", "<thinking>", "</thinking>", "[think]", "[/think]")
_TAG = re.compile(r"<(?P<end>/?)think(?:ing)?>|\[(?P<square_end>/?)think\]", re.IGNORECASE)
_THINKERS = re.compile(r"think|reason|\bqwq|\br1\b|deepseek-r|magistral", re.IGNORECASE)


class ThoughtReader:
    """Reads an answer piece by piece, and returns it without the thinking.

    If a bare closing tag arrives after text was returned, that text was thinking. It cannot be taken back, so
    `num_bare` counts such cases. With `holds`, no text is returned before this is known.

    Args:
        holds: Whether to hold all text back until a closing tag or the end of the answer.

    Examples:
        >>> reader = ThoughtReader()
        >>> [reader.feed(piece) for piece in ("<think>A fox? <h> a f", "ox </h></thi", "nk> A hen.")]
        ['', '', 'A hen.']
    """

    def __init__(self, *, holds: bool = False) -> None:
        self.num_bare = 0
        self.is_inside = False
        self.has_thought = False
        self._holds = holds
        self._waiting = ""  # with `holds`: text that may still turn out to be thinking
        self._held = ""  # the beginning of a tag
        self._last = ""  # the character before the held text
        self._is_blank = True  # whether the answer has no text yet

    def feed(self, piece: str) -> str:
        """Read the next piece, and return the text that is not thinking, as far as known."""
        text = self._held + piece
        shown: list[str] = []
        start = at = 0
        while (tag := _TAG.search(text, at)) is not None:
            at = tag.end()
            if (text[tag.start() - 1] if tag.start() else self._last) == "`":
                continue
            if not self.is_inside:
                shown.append(text[start : tag.start()])
            start = at
            if tag["end"] or tag["square_end"]:
                self._end_thought(shown)
            else:
                self.is_inside = self.has_thought = True
        cut = max(len(text) - max(held_length(text[-len("</thinking>") :].lower(), mark) for mark in _MARKS), at)
        if not self.is_inside:
            shown.append(text[start:cut])
        self._held = text[cut:]
        self._last = text[cut - 1] if cut else self._last
        return self._returned("".join(shown))

    def release(self) -> None:
        """Hold no more text back; what was held is returned with the next piece."""
        self._holds = False

    def close(self) -> str:
        """End the answer, and return the held text."""
        text = "" if self.is_inside else self._held
        self._held, self._holds = "", False
        return self._returned(text)

    def _end_thought(self, shown: list[str]) -> None:
        if not self.is_inside:  # a bare closing tag: what came before was thinking
            self.num_bare += 1
            self._waiting, self._is_blank = "", True
            shown.clear()
        self.is_inside, self.has_thought, self._holds = False, True, False

    def _returned(self, text: str) -> str:
        text = self._waiting + text
        self._waiting = ""
        if self._holds:
            self._waiting = text
            return ""
        if self._is_blank and self.has_thought:
            text = text.lstrip()
        self._is_blank = self._is_blank and not text.strip()
        return text


def text_without_thoughts(text: str) -> str:
    r"""Return a complete answer without its thinking.

    Examples:
        >>> text_without_thoughts("Maybe the key.</think>\nThe Lost Key")
        'The Lost Key'
    """
    reader = ThoughtReader(holds=True)
    return reader.feed(text) + reader.close()


def without_thoughts(content: str | list[str | dict[Any, Any]]) -> str | list[str | dict[Any, Any]]:
    """Return the content of a message without the thinking in its texts; a provider's reasoning blocks are kept."""
    if isinstance(content, str):
        return text_without_thoughts(content)
    return [
        text_without_thoughts(block)
        if isinstance(block, str)
        else {**block, "text": text_without_thoughts(str(block["text"]))}
        if block.get("type") == "text" and "text" in block
        else block
        for block in content
    ]


def thinks_by_name(name: str) -> bool:
    """Return whether a model's name suggests that it thinks before it answers.

    This affects only streaming: the text of such a model is held back until its thinking has ended.

    Examples:
        >>> thinks_by_name("deepseek-r1:7b"), thinks_by_name("gpt-5")
        (True, False)
    """
    return _THINKERS.search(name) is not None
