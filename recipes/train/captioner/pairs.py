"""Pairs of captions for DPO: the one whose pictures keep most of a request, and the one whose pictures keep least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.captioner.drawn_captions import DrawnCaption

__all__ = ["CaptionPair", "choose_pairs"]


@dataclass(frozen=True)
class CaptionPair:
    """Two captions of a request.

    Args:
        request: The request.
        chosen: The better caption.
        rejected: The worse one.
        difference: Difference of their scores.
    """

    request: str
    chosen: str
    rejected: str
    difference: float


def choose_pairs(drawn: Sequence[Sequence[DrawnCaption]], margin: float) -> list[CaptionPair]:
    """Return the best and the worst caption of each request whose scores differ enough.

    If several captions have the same score, the first is used. A request whose captions are all equal gives no pair.

    Args:
        drawn: The drawn captions of each request.
        margin: Smallest difference of the scores.

    Raises:
        InputError: If no request gives a pair.
    """
    pairs: list[CaptionPair] = []
    for row in drawn:
        written = [each for each in row if each.caption]
        if not written:
            continue
        best, worst = max(written, key=lambda each: each.score), min(written, key=lambda each: each.score)
        difference = best.score - worst.score
        if best.caption != worst.caption and difference >= margin:
            pairs.append(CaptionPair(best.request, best.caption, worst.caption, difference))
    if not pairs:
        raise InputError(
            f"None of {len(drawn)} requests has two captions whose scores differ by {margin:g} or more, so there is "
            "nothing to learn from. Raise sampling.temperature or sampling.captions, or lower margin."
        )
    return pairs
