"""The model on other devices than the CPU; each test is skipped where there is no such device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mgem_agent.core_model import MiniGeminiForConditionalGeneration

DEVICES = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs an Apple GPU (MPS)")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_another_device_answers_the_same(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], device: str
) -> None:
    torch.manual_seed(0)
    model: Any = make_model(initializer_range=0.3)
    ids = torch.tensor([[5, 9, 2, 40, 7]])
    options = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8, "pad_token_id": 0}
    wanted = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    model.to(device)
    found = model.generate(input_ids=ids.to(device), attention_mask=torch.ones_like(ids).to(device), **options)
    assert torch.equal(found.cpu(), wanted)
