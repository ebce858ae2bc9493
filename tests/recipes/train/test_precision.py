from __future__ import annotations

from typing import Any

import pytest
import torch

from mgem_agent.recipes.train import precision as module
from mgem_agent.recipes.train.precision import bf16_where_fast, matmul_precision, training_dtype


@pytest.mark.parametrize(("precision", "has_gpu", "expected"), [
    ("tf32", True, "high"), ("tf32", False, "highest"), ("fp32", True, "highest"), ("bf16", True, "highest"),
])  # fmt: skip
def test_products_are_tf32_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: str, has_gpu: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="stopped"), matmul_precision(precision):
        assert torch.get_float32_matmul_precision() == expected
        raise RuntimeError("stopped")
    assert torch.get_float32_matmul_precision() == before


def test_tf32_weights_are_float32() -> None:
    assert training_dtype("tf32") == torch.float32
    assert training_dtype("bf16") == torch.bfloat16


@pytest.mark.parametrize(("best", "precision", "found"), [
    (torch.bfloat16, "auto", torch.bfloat16), (torch.float32, "auto", torch.float32),
    (torch.float32, "bf16", torch.bfloat16), (torch.bfloat16, "fp32", torch.float32),
])  # fmt: skip
def test_a_cpu_that_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, best: torch.dtype, precision: Any, found: torch.dtype
) -> None:
    monkeypatch.setattr(module, "default_dtype", lambda device: best)
    with bf16_where_fast("cpu", precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == found
