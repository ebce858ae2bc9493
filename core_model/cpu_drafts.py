"""Drafts of the next tokens with 4 bits per weight, which the exact weights check all at once.

A token with the exact weights costs about three times one with 4 bits, but six tokens in one pass hardly cost more than
one. So the cheap weights guess some tokens, and one exact pass computes the outputs at all of them. An output is used
only if the caller's next token is the guessed one, whether it was chosen greedily, by sampling or by a grammar. So the
answer is that of the exact weights.

The number of guesses follows from how many were right before. Keys and values of guesses lie in the room behind those
of the cache (`cpu_step`), which never shows them before they are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mgem_agent.core_model.cpu_products import Product
from mgem_agent.core_model.cpu_step import Layer, Step, rooms

__all__ = ["Ahead", "GuessRate", "look_ahead"]

MAX_GUESSES = 6
"""Most guesses at once; FBGEMM's kernel multiplies about as many vectors in one pass over the weights."""

COST_OF_GUESS = 0.35
"""Cost of a guess, as a part of that of an exact pass."""


class GuessRate:
    """How many guesses are worth their cost, by how many were right.

    Attributes:
        right: Estimated chance that a guess is right.
    """

    def __init__(self) -> None:
        self.right = 0.8

    def record(self, ahead: Ahead) -> None:
        """Count the guesses that were used, which were right, and the next one, which was not."""
        num_guesses, num_right = len(ahead.hidden) - 1, ahead.used - 1
        for place in range(min(num_right + 1, num_guesses)):
            self.right += 0.05 * ((place < num_right) - self.right)

    def best_number(self) -> int:
        """Return the number of guesses with the most tokens for the cost."""

        def rate(number: int) -> float:
            tokens = sum(self.right**place for place in range(number + 1))
            return tokens / (1 + COST_OF_GUESS * number)

        return max(range(1, MAX_GUESSES + 1), key=rate)


@dataclass
class Ahead:
    """Outputs at the current token and at guessed ones.

    Attributes:
        past: Number of tokens before the current one.
        embedded: Embeddings (r, d) of the current token and the guesses.
        hidden: Outputs (r, d) at them.
        scores: Scores (r, vocabulary) of the token after each.
        used: Number of outputs that were used.
    """

    past: int
    embedded: Tensor
    hidden: Tensor
    scores: Tensor
    used: int = 0

    def use(self, embedded: Tensor, cache: DynamicCache) -> int | None:
        """Return which output belongs to the next token (1, d) of a cache, and let the cache have it; else None."""
        place = self.used
        if place == len(self.hidden) or cache.get_seq_length() != self.past + place:
            return None
        if not torch.equal(embedded[0], self.embedded[place]):
            return None
        found: list[Any] = [layer.__dict__.get("mgem_room") for layer in cache.layers]
        if any(room is None or not room.fits(layer, 1) for room, layer in zip(found, cache.layers, strict=True)):
            return None
        for room, layer in zip(found, cache.layers, strict=True):
            room.show(layer, self.past + place + 1)
        self.used += 1
        return place


def look_ahead(
    embedded: Tensor,
    cache: DynamicCache,
    *,
    step: Step,
    start: Tensor | int,
    number: int,
    exact: tuple[Sequence[Layer], Product],
    quick: tuple[Sequence[Layer], Product],
    embed: Callable[[Tensor], Tensor],
) -> Ahead:
    """Guess tokens after the current one, and compute the exact outputs at all of them.

    Args:
        embedded: Embedding (1, d) of the current token.
        cache: Its keys and values end before this token.
        step: The forward pass.
        start: Position of the current token.
        number: Number of guesses.
        exact: Layers and head that check.
        quick: Layers and head that guess.
        embed: The embedding of token ids.
    """
    past = cache.get_seq_length()
    places = rooms(cache, number + 1)
    rotations = step.rotations(start, number + 1)
    rows = [embedded]
    for guess in range(number):
        hidden = step(rows[-1], rotations[guess : guess + 1], quick[0], places, past + guess)
        rows.append(embed(quick[1](hidden).argmax(-1)))
    every = torch.cat(rows)
    hidden = step(every, rotations, exact[0], places, past)
    return Ahead(past, every, hidden, exact[1](hidden).float())
