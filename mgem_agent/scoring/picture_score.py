"""The score of a picture: the answers to the questions about it, and the share of yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.scoring.caption_atoms import AtomKind

__all__ = ["AtomAnswer", "PictureScore", "mean_score", "read_score"]


class AtomAnswer(BaseModel):
    """The answer to one question about a picture.

    Attributes:
        question: The question.
        kind: What it is about.
        words: The words of the caption that it comes from; empty if unknown.
        yes: Probability of yes, from 0 to 1; 0 or 1 from a model that gives no probabilities; None if the answer could
            not be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    kind: AtomKind = "other"
    words: str = ""
    yes: float | None = Field(default=None, ge=0, le=1)

    @property
    def is_failed(self) -> bool:
        """Whether the answer is no."""
        return self.yes is not None and self.yes < 0.5


class PictureScore(BaseModel):
    """How well a picture follows its caption.

    Attributes:
        answers: The answers.
        problem: What is wrong, in the judge's words; empty if it says nothing.
        caption: The judge's better caption; empty if it gives none.
        said: The judge's whole answer; empty for a judge that gives probabilities.

    Examples:
        >>> fox = AtomAnswer(question="Is there a fox in the picture?", kind="thing", words="fox", yes=0.9)
        >>> hat = AtomAnswer(question="Is there a hat in the picture?", kind="thing", words="hat", yes=0.2)
        >>> score = PictureScore(answers=(fox, hat))
        >>> round(score.score, 2), score.follows, score.what_is_wrong
        (0.55, False, 'not seen: hat')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[AtomAnswer, ...] = ()
    problem: str = ""
    caption: str = ""
    said: str = ""

    @property
    def score(self) -> float | None:
        """The share of yes: the mean of the probabilities; None if no answer could be read."""
        found = [answer.yes for answer in self.answers if answer.yes is not None]
        return sum(found) / len(found) if found else None

    @property
    def failed(self) -> tuple[AtomAnswer, ...]:
        """The questions that are answered no."""
        return tuple(answer for answer in self.answers if answer.is_failed)

    @property
    def follows(self) -> bool | None:
        """Whether no question is answered no; None if no answer could be read."""
        return None if self.score is None else not self.failed

    @property
    def what_is_wrong(self) -> str:
        """What is wrong: the judge's words, or those of the caption that were not seen; empty if nothing is."""
        if not self.failed:
            return ""
        return self.problem or "not seen: " + ", ".join(answer.words or answer.question for answer in self.failed)

    def passes(self, threshold: float | None) -> bool:
        """Whether the picture is good enough.

        Args:
            threshold: Smallest score that is; None if every question must be answered yes.
        """
        if self.score is None:
            return True  # nothing is known against it
        return bool(self.follows) if threshold is None else self.score >= threshold


def mean_score(scores: Sequence[PictureScore]) -> float | None:
    """Return the mean of the scores that are known; None if there is none."""
    found = [each.score for each in scores if each.score is not None]
    return sum(found) / len(found) if found else None


def read_score(record: Mapping[str, Any] | None) -> PictureScore | None:
    """Return a score from its JSON."""
    return None if record is None else PictureScore.model_validate(record)
