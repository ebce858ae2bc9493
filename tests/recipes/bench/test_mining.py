"""The benchmark of mining runs, and shows that both compute the same."""

from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.mining import bench_mining


@pytest.mark.parametrize("hd", [False, True])
def test_it_measures_the_same_computation(hd: bool) -> None:
    comparison = bench_mining(hd=hd, small=True, repeats=1, batch=2)
    assert comparison.max_abs_difference["output"] < 1e-5 < comparison.max_abs_value["output"]
    assert comparison.flops_ratio is not None and comparison.flops_ratio > 5
    assert comparison.memory_ratio is not None and comparison.memory_ratio > 4
    assert ("80 visual tokens" if hd else "16 visual tokens") in comparison.setting


def test_gradients_are_compared_too() -> None:
    comparison = bench_mining(small=True, repeats=1, backward=True)
    assert comparison.setting.endswith("with gradients")
    assert comparison.max_abs_difference["gradients"] < 1e-4 * comparison.max_abs_value["gradients"]


def test_half_precision_stays_close() -> None:
    comparison = bench_mining(small=True, repeats=1, dtype="bfloat16")
    assert comparison.max_abs_difference["output"] < 0.05


def test_numbers_are_checked() -> None:
    with pytest.raises(InputError, match=r"^repeats must be at least 1, got 0\.$"):
        bench_mining(small=True, repeats=0)
