"""A fixed answer to a question about a picture that a model's reader does not know.

A small model that was trained on a few hundred drawn things names one of them in any picture. It learns to say that it
cannot tell where its reader says so, but not for every question. So the answer to such a question is fixed.

Shapes: b prompts; l tokens; v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

__all__ = ["ForcedAnswer"]


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
