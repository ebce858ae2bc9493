"""The learning rate of a run; the loop itself is tested with the program."""

from __future__ import annotations

import pytest

from mgem_agent.recipes.train.config import OptimizerConfig
from mgem_agent.recipes.train.training_loop import learning_rate_schedule


def test_the_rate_rises_linearly_and_falls_to_its_final_ratio() -> None:
    schedule = learning_rate_schedule(
        OptimizerConfig(learning_rate=1e-3, warmup_ratio=0.1, final_ratio=0.2), num_steps=50
    )
    assert [schedule(step) for step in (0, 1, 5)] == [0.0, pytest.approx(0.2), 1.0]
    assert schedule(50) == pytest.approx(0.2)
    assert schedule(27) == pytest.approx(0.2 + 0.8 * 0.5, abs=0.02)


def test_without_a_final_ratio_it_falls_to_zero() -> None:
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=1e-3, warmup_ratio=0.03), num_steps=100)
    assert schedule(100) == pytest.approx(0.0, abs=1e-9)
    assert learning_rate_schedule(OptimizerConfig(learning_rate=1e-3), num_steps=1)(0) in (0.0, 1.0)
