"""The time to the first token with a new picture, by part."""

from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.first_token import FirstTokenComparison, bench_first_token


@pytest.mark.parametrize("hd", [False, True])
def test_every_part_is_measured(hd: bool) -> None:
    comparison = bench_first_token(small=True, hd=hd, llm="none", repeats=1)
    assert list(comparison.parts) == [
        *("decoding", "preparing", "low_res_encoder", "high_res_encoder", "mining", "projector", "rest"),
        "language_model",
    ]
    assert all(seconds > 0 for seconds in comparison.parts.values())
    assert 0 < comparison.high_res_share < 1
    shares = comparison.tables()[-1]
    assert shares.row_count == len(comparison.parts) + 1
    assert FirstTokenComparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(InputError, match=r"^No device 'tpu' for a benchmark"):
        bench_first_token(device="tpu")
