"""What follows a look: how a picture that fails its caption is improved, how often, and when it is good enough."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self, get_args

from mgem_agent.errors import InputError

__all__ = ["Look", "LookStrategy"]

LookStrategy = Literal["auto", "retry", "revise", "edit", "best_of_n"]
"""`retry`: the same caption with another seed; `revise`: a caption rewritten from what failed; `edit`: an instruction
to the generator to correct the picture; `best_of_n`: several pictures at once, of which the best is kept; `auto`: a
better caption where the judge gives one, and another seed."""

DEFAULT_REDRAWS = 2
_NAMES = "|".join(name for name in get_args(LookStrategy) if name != "best_of_n")
_FORM = re.compile(
    rf"(?:(?P<name>{_NAMES})(?:-(?P<num>\d+))?|best[-_]of[-_](?P<best>\d+)|(?P<bare>\d+))(?:@(?P<at>[\d.]+))?"
)


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures are looked at.

    Attributes:
        strategy: How a picture that fails is improved.
        max_redraws: Maximum number of further drawings of each picture; 0 to not look.
        threshold: Score from 0 to 1 at which a picture is good enough; None if every question must be answered yes.

    Raises:
        InputError: If a value is out of range.

    Examples:
        >>> Look.parse("revise-3@0.8")
        Look(strategy='revise', max_redraws=3, threshold=0.8)
        >>> Look.parse("best-of-4"), str(Look.parse("best-of-4"))
        (Look(strategy='best_of_n', max_redraws=3, threshold=None), 'best-of-4')
    """

    strategy: LookStrategy = "auto"
    max_redraws: int = 0
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.strategy not in get_args(LookStrategy):
            allowed = ", ".join(map(repr, get_args(LookStrategy)))
            raise InputError(f"There is no look strategy {self.strategy!r}. Allowed: {allowed}.")
        if self.max_redraws < 0:
            raise InputError(f"look={self.max_redraws} is too small. Give 0 or more.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"The threshold of a look is {self.threshold:g}. Allowed: 0 to 1.")

    @classmethod
    def parse(cls, value: Self | int | str) -> Self:
        """Read a look.

        Args:
            value: A maximum number of redraws; or a strategy with an optional number and threshold: `retry`,
                `revise-3`, `edit@0.8`, `best-of-4`.

        Raises:
            InputError: If it is not one.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, int):
            return cls("auto", int(value))
        found = _FORM.fullmatch(str(value).strip().lower())
        if found is None or not _is_number(found["at"]):
            raise InputError(
                f"look is {value!r}. Give a maximum number of redraws, or retry, revise, edit, each with an optional "
                "number such as revise-3, or best-of-4. A threshold may follow: revise-3@0.8."
            )
        threshold = None if found["at"] is None else float(found["at"])
        if found["best"] is not None:
            return cls("best_of_n", max(int(found["best"]) - 1, 0), threshold)
        if found["bare"] is not None:
            return cls("auto", int(found["bare"]), threshold)
        strategy = next(name for name in get_args(LookStrategy) if name == found["name"])
        return cls(strategy, DEFAULT_REDRAWS if found["num"] is None else int(found["num"]), threshold)

    def __bool__(self) -> bool:
        """Whether pictures are looked at."""
        return self.max_redraws > 0

    def __str__(self) -> str:
        """The form that `parse` reads."""
        at = "" if self.threshold is None else f"@{self.threshold:g}"
        if self.strategy == "best_of_n":
            return f"best-of-{self.max_redraws + 1}{at}"
        return f"{self.max_redraws}{at}" if self.strategy == "auto" else f"{self.strategy}-{self.max_redraws}{at}"


def _is_number(text: str | None) -> bool:
    if text is None:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
