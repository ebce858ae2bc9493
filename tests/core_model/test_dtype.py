"""The best number format of a device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mgem_agent.core_model.dtype import default_dtype


@pytest.mark.parametrize(
    ("device", "capable", "expected"),
    [
        ("cpu", {"amx_bf16": True}, torch.bfloat16),
        ("cpu", {"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ("cpu", {"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ("cuda", True, torch.bfloat16),
        ("cuda:1", False, torch.float16),
        ("mps", None, torch.bfloat16),
    ],
)
def test_the_number_format_of_a_device(
    monkeypatch: pytest.MonkeyPatch, device: str, capable: Any, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable, raising=False)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: capable and not including_emulation
    )
    assert default_dtype(device) == default_dtype(torch.device(device)) == expected


def test_a_torch_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert default_dtype("cpu") == torch.float32
