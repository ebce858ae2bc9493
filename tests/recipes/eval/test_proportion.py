from __future__ import annotations

import pytest
from pydantic import ValidationError

from mgem_agent.recipes.eval.proportion import Proportion


@pytest.mark.parametrize(
    ("num_right", "num", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_intervals_are_those_of_the_literature(num_right: int, num: int, low: float, high: float) -> None:
    share = Proportion(num=num, num_right=num_right)
    assert share.value == num_right / num
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_it_counts_and_reads_well() -> None:
    share = Proportion.of([True] * 18 + [False] * 2)
    assert (share.num, share.num_right, str(share)) == (20, 18, "90 % (70–97)")
    assert Proportion.model_validate_json(share.model_dump_json()) == share


def test_a_gain_has_newcombes_interval() -> None:
    gain = Proportion(num=70, num_right=56).gain_over(Proportion(num=80, num_right=48))
    assert gain == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)  # his table II, row (a), method 10
    assert Proportion(num=0, num_right=0).gain_over(Proportion(num=1, num_right=1)) is None


def test_of_nothing_there_is_no_share() -> None:
    share = Proportion.of([])
    assert (share.value, share.low, share.high, str(share)) == (None, None, None, "–")
    with pytest.raises(ValidationError, match="2 of 1 cannot be right"):
        Proportion(num=1, num_right=2)
