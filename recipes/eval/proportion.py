"""A proportion of right answers with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

__all__ = ["Proportion"]

_Z = NormalDist().inv_cdf(0.975)


class Proportion(BaseModel):
    """A proportion of right answers.

    Attributes:
        num: Number of answers.
        num_right: Number of right answers.

    Examples:
        >>> share = Proportion(num=20, num_right=18)
        >>> share.value, round(share.low, 3), round(share.high, 3)
        (0.9, 0.699, 0.972)
    """

    model_config = ConfigDict(frozen=True)

    num: int = Field(ge=0)
    num_right: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_right > self.num:
            raise ValueError(f"{self.num_right} of {self.num} cannot be right.")
        return self

    @classmethod
    def of(cls, verdicts: Iterable[bool]) -> Self:
        """Count verdicts."""
        found = list(verdicts)
        return cls(num=len(found), num_right=sum(found))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def value(self) -> float | None:
        """The proportion, from 0 to 1; None without answers."""
        return self.num_right / self.num if self.num else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval."""
        return None if (interval := self._interval()) is None else interval[0]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval."""
        return None if (interval := self._interval()) is None else interval[1]

    def gain_over(self, other: Proportion) -> tuple[float, float, float] | None:
        """Return the difference to another proportion, with its 95 % interval (Newcombe, 1998); None without answers.

        Args:
            other: A proportion of other answers; they are not taken as paired.

        Examples:
            >>> gain = Proportion(num=80, num_right=23).gain_over(Proportion(num=80, num_right=10))
            >>> [round(100 * value) for value in gain]
            [16, 4, 28]
        """
        mine, theirs = self._interval(), other._interval()
        if mine is None or theirs is None:
            return None
        p, q = self.num_right / self.num, other.num_right / other.num
        low = math.hypot(p - mine[0], theirs[1] - q)
        high = math.hypot(mine[1] - p, q - theirs[0])
        return p - q, p - q - low, p - q + high

    def _interval(self) -> tuple[float, float] | None:
        """Return Wilson's score interval (1927), which is valid for few answers and near 0 and 1, too."""
        if not self.num:
            return None
        share, num = self.num_right / self.num, self.num
        scale = 1 + _Z**2 / num
        middle = (share + _Z**2 / (2 * num)) / scale
        half = _Z / scale * math.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return "–"
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f}–{100 * self.high:.0f})"
