"""Constrain answers to a grammar: tokens that would violate it cannot be chosen.

llguidance compiles the grammar and returns the allowed tokens after each token; this module masks the logits with them.
A grammar is written in llguidance's variant of Lark, where `%json` stands for a value of a JSON schema.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["GrammarTokens", "can_follow_grammar"]

_LONGEST_REPETITION = 16
"""Most tokens that an answer may repeat where its grammar leaves a choice: a small model repeats fields endlessly."""


def can_follow_grammar(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether answers with this tokenizer can be constrained to a grammar.

    Args:
        tokenizer: The model's tokenizer; llguidance supports fast ones.
    """
    return isinstance(tokenizer, PreTrainedTokenizerFast) and importlib.util.find_spec("llguidance") is not None


class GrammarTokens:
    """A vocabulary prepared for grammars; built once, at the first grammar.

    Args:
        tokenizer: A fast tokenizer.
        num_scores: Number of logits per token; at least the size of the vocabulary.
        stop_ids: Tokens that end an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, num_scores: int, stop_ids: Sequence[int]) -> None:
        self._tokenizer, self._num_scores, self._stop_ids = tokenizer, num_scores, list(stop_ids)
        self._tokens: Any = None
        self._making = threading.Lock()

    def constraint(self, grammar: str) -> GrammarConstraint:
        """Return a logits processor that constrains one answer to a grammar.

        Args:
            grammar: A grammar in llguidance's Lark.

        Raises:
            InputError: If the grammar cannot be read.
        """
        from llguidance import LLMatcher

        matcher = LLMatcher(self._made(), grammar, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().strip().splitlines()[0]
            raise InputError(
                f"Answers cannot be constrained to this form: {reason}. Use a simpler JSON schema: objects, arrays, "
                "strings, numbers, booleans, enum and anyOf."
            )
        return GrammarConstraint(matcher)

    def _made(self) -> Any:
        from llguidance.hf import from_tokenizer

        with self._making:
            if self._tokens is None:
                fast: Any = self._tokenizer
                self._tokens = from_tokenizer(fast, n_vocab=self._num_scores, eos_token=self._stop_ids)
            return self._tokens


class GrammarConstraint(LogitsProcessor):
    """Constrain one answer to a grammar; use it for one call of `generate` with one prompt.

    Args:
        matcher: Tracks the grammar and the answer so far.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._num_prompt = self._num_seen = -1
        self._repeats = NoRepeatNGramLogitsProcessor(_LONGEST_REPETITION)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores (1, v) with minus infinity for tokens that may not follow input ids (1, l)."""
        if self._num_prompt < 0:
            self._num_prompt = self._num_seen = input_ids.shape[1]
        for token in input_ids[0, self._num_seen :].tolist():
            self._matcher.consume_token(token)
        self._num_seen = input_ids.shape[1]
        packed = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        bits = packed[:, None] >> torch.arange(8, dtype=torch.uint8) & 1
        allowed = bits.flatten()[: scores.shape[1]].bool().to(scores.device)
        within = scores.masked_fill(~allowed, float("-inf"))
        if not within.isfinite().any():  # another processor rules out every token that the grammar allows
            within = torch.zeros_like(scores).masked_fill(~allowed, float("-inf"))
        produced: Any = input_ids[:, self._num_prompt :]
        fresh = self._repeats(produced, within)
        return fresh if bool(fresh.isfinite().any()) else within
