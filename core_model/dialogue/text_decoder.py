"""Decode tokens to text one at a time.

The text of a new token is the difference between two decodings from the same earlier token, as in vLLM. So the joined
pieces equal the text decoded at once, including spaces. A character made of several tokens is yielded complete. The
cost does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from transformers import PreTrainedTokenizerBase

__all__ = ["TextDecoder"]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""The decoding of a character while some of its bytes are missing."""


class TextDecoder:
    """Decode tokens one at a time.

    Args:
        tokenizer: The language model's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._ids: list[int] = []  # from the window's start
        self._num_shown = 0  # how many of them are already decoded

    def decode(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they arrive, and the held-back rest at the end."""
        for token_id in token_ids:
            if piece := self.push(token_id):
                yield piece
        if piece := self.flush():
            yield piece

    def push(self, token_id: int) -> str:
        """Add a token and return the text that is now final; it may be empty."""
        self._ids.append(token_id)
        piece = self._unshown()
        if not piece or piece.endswith(_REPLACEMENT):
            return ""
        self._ids = self._ids[self._num_shown :]
        self._num_shown = len(self._ids)
        return piece

    def flush(self) -> str:
        """Return the text that was held back in case more bytes followed."""
        piece = self._unshown()
        self._num_shown = len(self._ids)
        return piece

    def _unshown(self) -> str:
        return self._text(self._ids)[len(self._text(self._ids[: self._num_shown])) :]

    def _text(self, ids: list[int]) -> str:
        # Cleaning up spaces would change text that was already yielded.
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
