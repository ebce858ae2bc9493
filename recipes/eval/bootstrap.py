"""Bootstrap intervals of means, and of differences of paired measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from mgem_agent.errors import InputError

__all__ = ["Interval"]

_NUM_SAMPLES = 10_000
_ROWS_AT_ONCE = 500


class Interval(BaseModel):
    """A mean with its 95 % bootstrap interval.

    Attributes:
        mean: The mean.
        low: Lower end.
        high: Upper end.
        num: Number of measurements.
    """

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float
    num: int

    @classmethod
    def of(cls, values: Sequence[float], *, seed: int = 0) -> Self:
        """Return the interval of a mean.

        Args:
            values: The measurements.
            seed: Seed of the resampling.

        Raises:
            InputError: If there are none.

        Examples:
            >>> Interval.of([0.0, 1.0] * 50)
            Interval(mean=0.5, low=0.4, high=0.6, num=100)
        """
        if not values:
            raise InputError("A mean needs at least one measurement, got none.")
        found = np.asarray(values, dtype=np.float64)
        random = np.random.default_rng(seed)
        means: list[float] = []
        while len(means) < _NUM_SAMPLES:
            places = random.integers(0, len(found), size=(min(_ROWS_AT_ONCE, _NUM_SAMPLES - len(means)), len(found)))
            means += found[places].mean(1).tolist()
        low, high = np.quantile(means, (0.025, 0.975))
        return cls(mean=float(found.mean()), low=float(low), high=float(high), num=len(found))

    @classmethod
    def of_difference(cls, values: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Self:
        """Return the interval of the mean of `values - others`, which are paired (the same prompts).

        Args:
            values: The measurements.
            others: Those to compare with, in the same order.
            seed: Seed of the resampling.

        Raises:
            InputError: If there are none, or their numbers differ.
        """
        if len(values) != len(others):
            raise InputError(f"Paired measurements have equal numbers, got {len(values)} and {len(others)}.")
        return cls.of([a - b for a, b in zip(values, others, strict=True)], seed=seed)

    def __str__(self) -> str:
        """The mean and the interval, with one decimal place."""
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"
