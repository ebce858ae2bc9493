"""The learning rate, against transformers' own schedule."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from mgem_agent.recipes.train.learning_rate import learning_rate_factor


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.03, 0.5])
def test_it_is_transformers_schedule(warmup_ratio: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(warmup_ratio * 100), 100)
    for step in range(100):
        assert learning_rate_factor(step, 100, warmup_ratio=warmup_ratio) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_something_may_be_left_at_the_end() -> None:
    factors = [learning_rate_factor(step, 50, warmup_ratio=0.1, final_ratio=0.2) for step in range(51)]
    assert (max(factors), factors[-1]) == (1.0, pytest.approx(0.2))
    assert learning_rate_factor(0, 1, warmup_ratio=0.03) == 0.0
