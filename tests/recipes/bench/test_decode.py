"""The benchmark of streamed tokens: both write the same."""

from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.decode import DecodeComparison, bench_decode


def test_both_write_the_same_with_the_same_weights() -> None:
    comparison = bench_decode(model="small", tokens=4, repeats=2)
    assert (comparison.num_tokens, comparison.same_tokens, comparison.likeliest_agree) == (4, 4, 1.0)
    assert comparison.divergence == pytest.approx(0, abs=1e-6)
    assert comparison.setting.endswith("ours: packed weights, FLOAT 5")
    assert comparison.ours_tokens_per_s == pytest.approx(3 / comparison.ours)
    assert comparison.ratio == pytest.approx(comparison.ours_tokens_per_s / comparison.alternative_tokens_per_s)
    assert len(comparison.ours_run.seconds) == 2
    assert len(comparison.tables()) == 2
    assert DecodeComparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_a_single_token_has_no_speed() -> None:
    with pytest.raises(InputError, match=r"^tokens must be at least 2, got 1: the time from the first to the last"):
        bench_decode(model="small", tokens=1)
