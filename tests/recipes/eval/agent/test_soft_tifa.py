from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.soft_tifa import arithmetic_mean, by_atom_count, by_skill, geometric_mean

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=10)
PROMPTS = [
    EvalPrompt(prompt="two cats", atom_count=2, vqa_list=(("?", "two"), ("?", "Yes")), skills=("count", "object")),
    EvalPrompt(prompt="a cat", atom_count=1, vqa_list=(("?", "Yes"),), skills=("object",)),
]


@given(SCORES)
def test_the_geometric_mean_is_the_smaller(scores: list[float]) -> None:
    assert 0 <= geometric_mean(scores) <= arithmetic_mean(scores) + 1e-9
    product = 1.0
    for score in scores:
        product *= score
    assert geometric_mean(scores) == pytest.approx(product ** (1 / len(scores)), abs=1e-6)


def test_analyses() -> None:
    scores = [[0.5, 1.0], [0.2]]
    assert by_skill(PROMPTS, scores) == {"count": 50.0, "object": 60.0}
    assert by_atom_count(PROMPTS, scores) == pytest.approx({1: 20.0, 2: 100 * 0.5**0.5})
