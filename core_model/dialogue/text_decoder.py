"""Text of tokens that come one at a time.

What a new token adds is the difference between two decodings that begin at the same earlier token, as vLLM does it. So
the pieces joined are the text decoded at once, spaces included, and a character of several tokens comes out whole, at a
cost that does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from transformers import PreTrainedTokenizerBase

__all__ = ["TextDecoder"]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What a character decodes to as long as some of its bytes are missing."""


class TextDecoder:
    """Decode tokens one at a time.

    Args:
        tokenizer: The language model's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._ids: list[int] = []  # from the window's start on
        self._num_shown = 0  # how many of them are decoded already

    def decode(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they come, and at the end what was held back."""
        for token_id in token_ids:
            if piece := self.push(token_id):
                yield piece
        if piece := self.flush():
            yield piece

    def push(self, token_id: int) -> str:
        """Take a token and return the text that is now certain; it may be empty."""
        self._ids.append(token_id)
        piece = self._unshown()
        if not piece or piece.endswith(_REPLACEMENT):
            return ""
        self._ids = self._ids[self._num_shown :]
        self._num_shown = len(self._ids)
        return piece

    def flush(self) -> str:
        """Return what was held back because more bytes might have followed."""
        piece = self._unshown()
        self._num_shown = len(self._ids)
        return piece

    def _unshown(self) -> str:
        return self._text(self._ids)[len(self._text(self._ids[: self._num_shown])) :]

    def _text(self, ids: list[int]) -> str:
        # A clean-up of spaces would take back what was shown.
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
