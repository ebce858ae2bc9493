"""Whether a picture is like those that a model was trained on, and what it answers where it is not.

A small model that was trained on a few hundred drawn things names one of them in any picture. But its visual tokens
learned to be near the embeddings of the words for what they show. A picture is familiar if its tokens are near known
words. One that is not gets a fixed answer, such as "I cannot tell what this shows."

Shapes: n visual tokens; d hidden size of the LLM; V known words; b prompts; v vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

__all__ = ["FAMILIARITY_FILE", "Familiarity", "ForcedAnswer"]

FAMILIARITY_FILE = "familiarity.safetensors"
"""File in a model's folder."""


@dataclass(frozen=True)
class Familiarity:
    """What a model knows.

    Attributes:
        words: (V, d) embeddings of the words that its visual tokens learned.
        least: The score from which a picture is familiar, from -1 to 1.
        answer: The answer to a question about a picture that is not.
    """

    words: Tensor
    least: float
    answer: str

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Familiarity | None:
        """Read it from a model's folder; None if there is none.

        Args:
            folder: The folder.
        """
        file = Path(folder) / FAMILIARITY_FILE
        if not file.is_file():
            return None
        with safe_open(file, "pt") as stored:
            told = stored.metadata()
            return cls(stored.get_tensor("words").float(), float(told["least"]), told["answer"])

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write it to a model's folder, and return the file.

        Args:
            folder: The folder.
        """
        file = Path(folder) / FAMILIARITY_FILE
        save_file({"words": self.words.half()}, file, {"least": f"{self.least:.4f}", "answer": self.answer})
        return file

    def score(self, tokens: Tensor) -> float:
        """Return the mean, over visual tokens, of the highest cosine similarity with a known word, from -1 to 1.

        The mean embedding of the words is subtracted first, because it is part of every embedding.

        Args:
            tokens: (n, d) visual tokens of a picture, as the projector returns them.
        """
        middle, directions = (each.to(tokens.device) for each in self._centred)
        near = F.normalize(tokens.float() - middle, dim=-1) @ directions.T
        return near.max(-1).values.mean().item()

    def knows(self, tokens: Tensor) -> bool:
        """Return whether a picture is familiar.

        Args:
            tokens: As for :meth:`score`.
        """
        return self.score(tokens) >= self.least

    def forced_answer(
        self, pictures: Sequence[Sequence[Tensor]], tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]
    ) -> ForcedAnswer | None:
        """Return what fixes the answers about unfamiliar pictures; None if there are none.

        Args:
            pictures: For each prompt, the (n, d) visual tokens of the pictures that it asks about, without those of a
                reader.
            tokenizer: The model's tokenizer.
            stop_ids: Tokens that end an answer.
        """
        is_forced = [not all(map(self.knows, asked)) for asked in pictures]
        if not any(is_forced):
            return None
        words: list[int] = tokenizer(self.answer, add_special_tokens=False).input_ids
        return ForcedAnswer([*words, stop_ids[0]], is_forced)

    @cached_property
    def _centred(self) -> tuple[Tensor, Tensor]:
        """The mean embedding, (d,), and the directions of the words from it, (V, d)."""
        middle = self.words.mean(0)
        return middle, F.normalize(self.words - middle, dim=-1)


class ForcedAnswer(LogitsProcessor):
    """Makes some answers of a batch fixed ones, unless another processor does not allow their next token.

    Args:
        tokens: Token ids of the fixed answer, with the token that ends it.
        is_forced: For each of the b prompts, whether its answer is fixed.
    """

    def __init__(self, tokens: Sequence[int], is_forced: Sequence[bool]) -> None:
        self._tokens = list(tokens)
        self._is_forced = list(is_forced)
        self._num_prompt = -1

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores (b, v) in which a forced token is the only one, for input ids (b, l)."""
        if self._num_prompt < 0:
            self._num_prompt = input_ids.shape[1]
        place = input_ids.shape[1] - self._num_prompt
        if place >= len(self._tokens):
            return scores
        token, fixed = self._tokens[place], scores.clone()
        for row, is_forced in enumerate(self._is_forced):
            if is_forced and torch.isfinite(scores[row, token]):
                fixed[row] = float("-inf")
                fixed[row, token] = 0
            else:
                self._is_forced[row] = False
        return fixed
