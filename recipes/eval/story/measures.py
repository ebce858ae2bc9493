"""The measures of ViStoryBench, as formulas over features of length 1.

Shapes: g drawn regions of a character, r its reference pictures, d features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["copy_rate", "cross_similarity", "mean_or_zero", "occm", "self_similarity"]

_TINY = 1e-6


def cross_similarity(drawn: Tensor, references: Tensor) -> float:
    """Return CIDS cross of a character: the mean similarity of its drawn regions to its references.

    Args:
        drawn: (g, d).
        references: (r, d).
    """
    return float((drawn @ references.T).mean())


def self_similarity(drawn: Tensor) -> float:
    """Return the mean similarity of all pairs: CIDS self of a character, or CSD self of pages. One alone gives 1.

    Args:
        drawn: (g, d).
    """
    if len(drawn) < 2:
        return 1.0
    first, second = torch.triu_indices(len(drawn), len(drawn), offset=1)
    return float((drawn @ drawn.T)[first, second].mean())


def occm(num_found: int, num_expected: int) -> float:
    """Return on-stage character count matching of a page: 100 if as many characters are found as expected.

    Args:
        num_found: Characters found.
        num_expected: Characters expected.

    Examples:
        >>> occm(2, 2), round(occm(1, 2), 1)
        (100.0, 60.7)
    """
    return 100 * math.exp(-abs(num_found - num_expected) / (_TINY + num_expected))


def copy_rate(drawn: Tensor, references: Tensor) -> float | None:
    """Return the copy-paste score of a character; None with fewer than two references.

    The first reference is the one that was shown. By ViStoryBench's formula, 0 is a copy of it, 0.5 is as near to it as
    to the others, 1 is a copy of another.

    Args:
        drawn: (g, d).
        references: (r, d).
    """
    if len(references) < 2 or not len(drawn):
        return None
    to_shown = _chord(drawn @ references[0])[:, None]  # (g, 1)
    to_others = _chord(drawn @ references[1:].T)  # (g, r - 1)
    between = _chord(references[1:] @ references[0])  # (r - 1)
    rates = 0.5 * (1 + (to_shown - to_others) / between.clamp(min=_TINY))
    same = between**2 <= 2 * _TINY
    return float(torch.where(same, torch.full_like(rates, 0.5), rates).mean())


def mean_or_zero(values: Sequence[float]) -> float:
    """Return the mean; 0 without values."""
    return sum(values) / len(values) if values else 0.0


def _chord(cosines: Tensor) -> Tensor:
    """Return the distance of two points of the unit sphere by the cosine of their angle."""
    return (2 * (1 - cosines.clamp(-1, 1))).clamp(min=_TINY).sqrt()
