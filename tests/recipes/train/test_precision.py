from __future__ import annotations

import pytest
import torch

from mgem_agent.recipes.train.precision import matmul_precision, training_dtype


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
