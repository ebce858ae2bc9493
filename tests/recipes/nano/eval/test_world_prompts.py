from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import read_prompts
from mgem_agent.recipes.nano.eval.world_prompts import WORLD_PROMPTS, make_drawable_prompts, make_world_prompts


def test_the_shipped_prompts_are_those_that_the_function_makes() -> None:
    assert read_prompts(WORLD_PROMPTS) == make_world_prompts(60)


def test_every_form_has_its_skills() -> None:
    made = make_world_prompts(6)
    assert [sorted(set(prompt.skills)) for prompt in made] == [
        ["count", "object"],
        ["count", "object"],
        ["count", "object", "position"],
        ["attribute", "count", "object"],
        ["count", "object"],
        ["attribute", "count", "object", "position"],
    ]
    assert [prompt.atom_count for prompt in made] == [2, 2, 3, 4, 4, 6]
    assert len({prompt.prompt for prompt in make_world_prompts(60)}) == 60


def test_drawable_prompts_have_few_things() -> None:
    made = make_drawable_prompts(80, seed=3)
    assert len({each.prompt for each in made}) == 80
    assert made == make_drawable_prompts(80, seed=3) and made[:10] == make_drawable_prompts(10, seed=3)
    for each in made:
        numbers = [answer for question, answer in each.vqa_list if question.startswith("How many")]
        assert numbers in (["two"], ["three"], ["one", "one"])
    assert {skill for each in made for skill in each.skills} == {"count", "object", "attribute", "position"}
    with pytest.raises(InputError, match="5000 different prompts are too many for"):
        make_drawable_prompts(5000)
