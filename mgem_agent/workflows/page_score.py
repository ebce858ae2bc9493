"""The score of a page's picture: its caption, its cast, and how similar it is to the other pictures of the book."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.scoring.picture_score import PictureScore

__all__ = ["PageScore"]


class PageScore(BaseModel):
    """The score of one picture of a page. Each part is from 0 to 1, except similarities, which are cosines.

    Attributes:
        artifact_id: The picture.
        caption: Answers to the questions made from the page's caption.
        cast: Probability that each expected member of the cast is in the picture.
        likeness: Cosine similarity with the reference picture, or with the first page that shows the same member, by
            member. The whole pictures are compared.
        style: Cosine similarity of the style with the first picture of the book; None for the first.
        encoder: Name of the picture encoder; empty if there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact_id: str
    caption: PictureScore = PictureScore()
    cast: dict[str, float] = Field(default_factory=dict)
    likeness: dict[str, float] = Field(default_factory=dict)
    style: float | None = None
    encoder: str = ""

    @property
    def score(self) -> float | None:
        """The mean of the parts that are known: caption, cast, likeness and style; None if there is none."""
        parts = [self.caption.score, _mean(self.cast), _mean(self.likeness), self.style]
        known = [max(part, 0.0) for part in parts if part is not None]
        return sum(known) / len(known) if known else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Members of the cast that are not in the picture."""
        return tuple(name for name, yes in self.cast.items() if yes < 0.5)

    def passes(self, threshold: float | None) -> bool:
        """Whether the page is good enough.

        Args:
            threshold: Smallest score that is; None if the caption must be followed and the whole cast be present.
        """
        if threshold is None:
            return self.caption.follows is not False and not self.missing
        return self.score is None or self.score >= threshold


def _mean(values: dict[str, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None
