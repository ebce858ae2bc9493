"""Muon moves a matrix in every direction by the same length; other parameters move as with AdamW."""

import pytest
import torch
from torch import nn

from mgem_agent.recipes.nano.drawing.orthogonal_optimizer import OrthogonalOptimizer, orthogonal


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_other_groups_move_as_with_adamw() -> None:
    mine, theirs = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    group = {"lr": 0.1, "weight_decay": 0.01}
    optimizers = [
        OrthogonalOptimizer([{"params": [mine], **group}]),
        torch.optim.AdamW([{"params": [theirs], **group}], betas=(0.9, 0.98)),
    ]
    for number in range(3):
        for parameter, optimizer in zip((mine, theirs), optimizers, strict=True):
            parameter.grad = torch.arange(4.0) - number
            optimizer.step()
    assert torch.allclose(mine, theirs)


def test_a_kernel_is_learned() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1).to(memory_format=torch.channels_last)
    wanted = nn.Conv2d(3, 4, 3, padding=1)
    optimizer = OrthogonalOptimizer(
        [
            {"params": [conv.weight], "lr": 0.02, "weight_decay": 0.0, "is_orthogonal": True},
            {"params": [conv.bias], "lr": 0.02, "weight_decay": 0.0},
        ]
    )
    seen = torch.randn(4, 3, 8, 8)
    errors = []
    for _ in range(40):
        loss = (conv(seen) - wanted(seen).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.2 * errors[0]
