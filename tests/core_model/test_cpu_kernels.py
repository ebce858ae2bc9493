"""Parts of the compiled pass compute what NumPy computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mgem_agent.core_model import cpu_kernels


def test_powers_of_e() -> None:
    powers = np.linspace(-90, 88, 5001, dtype=np.float32)
    found = np.array([cpu_kernels.exp(power) for power in powers])
    np.testing.assert_allclose(found, np.exp(np.clip(powers, -87, 88).astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("length", [1, 4, 7, 130])
def test_the_attention_of_a_head(length: int) -> None:
    draw = np.random.default_rng(length)
    query, keys, values = (draw.standard_normal(size).astype(np.float32) for size in (16, (length, 16), (length, 16)))
    scores, out = np.zeros(length, np.float32), np.zeros(16, np.float32)
    cpu_kernels.attend(query, keys, values, scores, out)
    shares = np.exp(keys @ query / 4)
    np.testing.assert_allclose(out, shares @ values / shares.sum(), rtol=1e-4, atol=1e-6)


def test_without_a_folder_for_it_code_is_compiled_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = cpu_kernels.njit

    def without_folder(*, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function 'twice': no locator available")
        return njit(**options)

    monkeypatch.setattr(cpu_kernels, "njit", without_folder)

    def twice(number: int) -> int:
        return 2 * number

    assert cpu_kernels.compiled(twice)(4) == 8
