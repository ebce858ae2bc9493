"""How many answers are, token for token, those of float32: 100 prompts, greedy.

An answer counts if all of its tokens are the same. A language model of this size often has two next words that are
almost equally likely, so small errors of the weights show: one other word, and the rest of the answer differs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, computed_field

from mgem_agent.recipes.bench.progress import steps

__all__ = ["Answering", "SameAnswers", "compare_answers", "prompts"]

_SUBJECTS = (
    *("foxes", "a lighthouse", "the moon", "rain", "a red bicycle", "bread", "an old castle", "whales"),
    *("the colour green", "a train journey", "winter", "bees", "a small robot", "mountains", "a birthday party"),
    *("the desert", "music", "a lost key", "the ocean", "an apple tree"),
)
_FORMS = (
    *("Tell me about {}.", "Write a short story about {}.", "What is special about {}?", "Draw {}."),
    "Give me three facts about {}.",
)

Answering = Callable[[str], Sequence[int]]
"""From a prompt to the token ids of its answer, without the stop token."""


class SameAnswers(BaseModel):
    """Answers that are the same as those of float32.

    Attributes:
        label: Whose answers.
        num_prompts: Number of prompts.
        parted: For each other answer, the prompt and the number of tokens before the first other one.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    num_prompts: int
    parted: tuple[tuple[str, int], ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        """Share of the answers that are the same."""
        return 1 - len(self.parted) / self.num_prompts

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median_parted_after(self) -> float | None:
        """Median number of same tokens in the answers that differ; None if none does."""
        return statistics.median(place for _, place in self.parted) if self.parted else None


def prompts(number: int) -> list[str]:
    """Return the first of the 100 prompts, with the kinds of prompt in turn."""
    every = [form.format(subject) for subject in _SUBJECTS for form in _FORMS]
    return every[:number]


def compare_answers(ideal: Answering, others: dict[str, Answering], number: int) -> tuple[SameAnswers, ...]:
    """Compare the answers to a number of prompts.

    Args:
        ideal: Answers with float32 weights.
        others: The others, by their labels.
        number: Number of prompts, at most 100.
    """
    parted: dict[str, list[tuple[str, int]]] = {label: [] for label in others}
    for prompt in steps("an answer of each to a prompt", prompts(number)):
        wanted = list(ideal(prompt))
        for label, answering in others.items():
            found = list(answering(prompt))
            if found != wanted:
                pairs = zip(found, wanted, strict=False)
                same = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
                parted[label].append((prompt, min(len(found), len(wanted)) if same is None else same))
    return tuple(SameAnswers(label=label, num_prompts=number, parted=tuple(places)) for label, places in parted.items())
