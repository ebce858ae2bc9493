"""The paper's comparison of two systems (section 4.3): a judge scores pictures from 1 to 10.

The judge sees the user's prompt and both pictures, and scores each for its quality and for following the prompt. It is
asked twice, with the pictures swapped, because judges prefer a position; the scores of both answers are averaged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ConfigDict

from mgem_agent.chat_models.lenient_json import find_object
from mgem_agent.chat_models.thoughts import text_without_thoughts
from mgem_agent.prompts import render_prompt
from mgem_agent.recipes.eval.bootstrap import Interval
from mgem_agent.scoring.picture_judge import picture_block

__all__ = ["ASPECTS", "PairJudgement", "PairResult", "judge_pair"]

ASPECTS = ("quality", "instruction")
"""What is scored: the quality of the picture, and how well it follows the prompt."""


class PairJudgement(BaseModel):
    """The scores of two pictures of a prompt, from 1 to 10, averaged over both orders.

    Attributes:
        first: The first system's score of each aspect.
        second: The second system's.
    """

    model_config = ConfigDict(frozen=True)

    first: dict[str, float]
    second: dict[str, float]


class PairResult(BaseModel):
    """The comparison of two systems.

    Attributes:
        first: The first system's mean score of each aspect.
        second: The second system's.
        difference: First minus second, paired.
        wins: Prompts on which the first has the larger sum of scores, an equal one, and a smaller one.
        num_unread: Prompts whose judgement could not be read.
    """

    model_config = ConfigDict(frozen=True)

    first: dict[str, Interval]
    second: dict[str, Interval]
    difference: dict[str, Interval]
    wins: tuple[int, int, int]
    num_unread: int

    @classmethod
    def of(cls, judgements: Sequence[PairJudgement | None]) -> Self:
        """Aggregate judgements.

        Args:
            judgements: One for each prompt; None for one that could not be read.

        Raises:
            InputError: If none could be read.
        """
        known = [each for each in judgements if each is not None]
        gaps = [sum(each.first.values()) - sum(each.second.values()) for each in known]
        firsts = {aspect: [each.first[aspect] for each in known] for aspect in ASPECTS}
        seconds = {aspect: [each.second[aspect] for each in known] for aspect in ASPECTS}
        return cls(
            first={aspect: Interval.of(values) for aspect, values in firsts.items()},
            second={aspect: Interval.of(values) for aspect, values in seconds.items()},
            difference={aspect: Interval.of_difference(firsts[aspect], seconds[aspect]) for aspect in ASPECTS},
            wins=(sum(gap > 0 for gap in gaps), sum(gap == 0 for gap in gaps), sum(gap < 0 for gap in gaps)),
            num_unread=len(judgements) - len(known),
        )


def judge_pair(judge: BaseChatModel, prompt: str, first: Path, second: Path) -> PairJudgement | None:
    """Judge two pictures of a prompt, in both orders.

    Args:
        judge: A chat model that takes several pictures.
        prompt: The user's prompt.
        first: The first system's picture.
        second: The second system's.

    Returns:
        The scores; None if an answer could not be read.

    Raises:
        MgemError: If the judge fails. Errors of a provider's package are passed on.
    """
    blocks = [picture_block(file) for file in (first, second)]
    straight = _asked(judge, prompt, blocks)
    swapped = _asked(judge, prompt, blocks[::-1])
    if straight is None or swapped is None:
        return None
    pairs = ((straight[0], swapped[1]), (straight[1], swapped[0]))
    ours, theirs = ({aspect: (a[aspect] + b[aspect]) / 2 for aspect in ASPECTS} for a, b in pairs)
    return PairJudgement(first=ours, second=theirs)


def _asked(
    judge: BaseChatModel, prompt: str, blocks: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], dict[str, float]] | None:
    """Return the scores of the pictures A and B."""
    text = render_prompt("judge_pair", prompt=prompt)
    content: list[str | dict[Any, Any]] = [{"type": "text", "text": "Picture A:"}, dict(blocks[0])]
    content += [{"type": "text", "text": "Picture B:"}, dict(blocks[1]), {"type": "text", "text": text}]
    options: dict[str, Any] = {"draw": "never"} if "draw" in type(judge).model_fields else {}
    answer = text_without_thoughts(str(judge.invoke([HumanMessage(content)], **options).text))
    told = find_object(answer, "A") or {}
    found = [_scores(told.get(name)) for name in ("A", "B")]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _scores(told: Any) -> dict[str, float] | None:
    if not isinstance(told, Mapping):
        return None
    found: dict[str, float] = {}
    for aspect in ASPECTS:
        number = re.match(r"\s*(\d+(?:\.\d+)?)", str(told.get(aspect, "")))
        if number is None or not 1 <= float(number[1]) <= 10:
            return None
        found[aspect] = float(number[1])
    return found
