"""Soft-TIFA, the score of GenEval 2 (arXiv 2512.16853).

A judge answers each question about a picture; the soft score of a question is the probability of the right answer. The
arithmetic mean over the questions of a prompt (AM) estimates the share of atoms that are right; the geometric mean (GM)
estimates whether the whole prompt is. Both are averaged over the prompts, and shown times 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mgem_agent.recipes.eval.agent.prompts import EvalPrompt

__all__ = ["arithmetic_mean", "by_atom_count", "by_skill", "geometric_mean"]


def arithmetic_mean(scores: Sequence[float]) -> float:
    """Return Soft-TIFA AM of one prompt, from 0 to 1.

    Args:
        scores: Soft score of each question, from 0 to 1.

    Examples:
        >>> arithmetic_mean([1.0, 0.25])
        0.625
    """
    return sum(scores) / len(scores)


def geometric_mean(scores: Sequence[float]) -> float:
    """Return Soft-TIFA GM of one prompt, from 0 to 1; 0 if one question is certainly answered wrong.

    Args:
        scores: Soft score of each question, from 0 to 1.

    Examples:
        >>> geometric_mean([1.0, 0.25]), geometric_mean([1.0, 0.0])
        (0.5, 0.0)
    """
    if min(scores) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, scores)) / len(scores))


def by_skill(prompts: Sequence[EvalPrompt], scores: Sequence[Sequence[float]]) -> Mapping[str, float]:
    """Return the mean soft score of all questions of each skill, times 100.

    Args:
        prompts: The prompts.
        scores: Soft scores of the questions of each prompt.
    """
    found: dict[str, list[float]] = {}
    for prompt, row in zip(prompts, scores, strict=True):
        for skill, score in zip(prompt.skills, row, strict=True):
            found.setdefault(skill, []).append(score)
    return {skill: 100 * arithmetic_mean(rows) for skill, rows in sorted(found.items())}


def by_atom_count(prompts: Sequence[EvalPrompt], scores: Sequence[Sequence[float]]) -> Mapping[int, float]:
    """Return Soft-TIFA GM of the prompts of each atom count, times 100.

    Args:
        prompts: The prompts.
        scores: Soft scores of the questions of each prompt.
    """
    found: dict[int, list[float]] = {}
    for prompt, row in zip(prompts, scores, strict=True):
        found.setdefault(prompt.atom_count, []).append(geometric_mean(row))
    return {count: 100 * arithmetic_mean(rows) for count, rows in sorted(found.items())}
