"""Figure 10, row 1: direct text-to-image generation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.errors import InputError
from mgem_agent.workflows import direct


def test_figure_6_a_spider_man_riding_a_motorbike(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of("It is a motorbike.")
    turn = direct.run(agent, "A spider man riding a motorbike", seed=7)
    [picture] = turn.pictures
    assert picture.prompt == "A spider man riding a motorbike"
    recipe = agent.store.get(picture.artifact_id).recipe
    assert recipe is not None and recipe.request.seed == 7
    assert agent.invoke("What does he ride?").text == "It is a motorbike."  # the reasoner knows of the picture now


def test_what_cannot_be_drawn_is_refused(agent_of: Callable[..., MgemAgent]) -> None:
    with pytest.raises(
        InputError, match=r"^The image request is not valid\. sede: Extra .*Allowed fields: prompt, task"
    ):
        direct.run(agent_of(), "a fox", sede=7)
    with pytest.raises(InputError, match=r"^The image request is not valid\. prompt: "):
        direct.run(agent_of(), "  ")
