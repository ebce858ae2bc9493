from __future__ import annotations

import numpy as np
import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.bootstrap import Interval


def test_an_interval_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400).tolist()
    found = Interval.of(values)
    error = float(np.std(values)) / 20
    assert abs(found.mean - np.mean(values)) < 1e-9
    assert abs((found.high - found.low) - 2 * 1.96 * error) < 0.1 * error
    assert Interval.of(values) == found != Interval.of(values, seed=1)


def test_paired_differences_are_narrower_than_the_means() -> None:
    random = np.random.default_rng(2)
    values = random.normal(50, 20, 100)
    better = values + 1 + random.normal(0, 0.5, 100)
    gain = Interval.of_difference(better.tolist(), values.tolist())
    assert 0.8 < gain.low < 1 < gain.high < 1.2
    assert str(Interval(mean=1.26, low=-0.04, high=2, num=3)) == "1.3 (-0.0 to 2.0)"


def test_measurements_are_needed_and_paired() -> None:
    with pytest.raises(InputError, match="at least one measurement, got none"):
        Interval.of([])
    with pytest.raises(InputError, match="equal numbers, got 1 and 2"):
        Interval.of_difference([1.0], [1.0, 2.0])
