"""Two computations by two CUDA streams, or one after another elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mgem_agent.core_model.side_by_side import side_by_side


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
    ],
)
def test_the_results_are_those_of_one_after_another(device: str) -> None:
    pixels = torch.randn(64, 64, device=device)

    def first() -> Tensor:
        return pixels @ pixels

    def second() -> list[Tensor]:
        return [pixels + 1, (pixels * 2).sum(dim=0)]

    with torch.no_grad():
        found, others = side_by_side(first, second, pixels.device)
    assert torch.equal(found, first())
    assert all(torch.equal(one, other) for one, other in zip(others, second(), strict=True))


def test_gradients_flow_through_both() -> None:
    weight = torch.ones(3, requires_grad=True)
    found, others = side_by_side(lambda: weight * 2, lambda: [weight * 3], weight.device)
    (found + others[0]).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [5, 5, 5]
