"""Consistency by what a generator can do."""

from __future__ import annotations

import re

import pytest

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.workflows.consistency import choose_consistency
from mgem_agent.workflows.story_recipe import Consistency, StoryRecipe

PLAIN = Capabilities()
SEEDED = Capabilities(seed=True)
ADAPTED = Capabilities(seed=True, max_references=1, options=frozenset({"ip_adapter_scale"}))
SHOWN = Capabilities(seed=True, max_references=1)


@pytest.mark.parametrize(
    ("able", "chosen"),
    [(PLAIN, "seed+card"), (SEEDED, "seed+card"), (ADAPTED, "ip_adapter"), (SHOWN, "reference")],
)
def test_auto_takes_the_best(able: Capabilities, chosen: Consistency) -> None:
    assert choose_consistency(StoryRecipe(premise="x"), able, generator="g") == chosen


@pytest.mark.parametrize(
    ("able", "asked", "said"),
    [
        (
            SEEDED,
            "reference",
            "consistency='reference' needs a generator that takes reference pictures; 'g' is not one. Allowed with it: "
            "'auto', 'seed+card', 'none'.",
        ),
        (SHOWN, "ip_adapter", "consistency='ip_adapter' needs a generator with an IP-Adapter on (diffusers: options"),
        (PLAIN, "seed+card", "consistency='seed+card' needs a generator that takes seeds; 'g' is not one."),
    ],
)
def test_what_cannot_be_honoured_is_refused(able: Capabilities, asked: Consistency, said: str) -> None:
    with pytest.raises(UnsupportedRequestError, match=re.escape(said)):
        choose_consistency(StoryRecipe(premise="x", consistency=asked), able, generator="g")


def test_pictures_that_the_generator_would_not_take() -> None:
    recipe = StoryRecipe(premise="x", references=("a.png", "b.png"))
    with pytest.raises(
        UnsupportedRequestError, match=r"has 2 reference picture\(s\); generator 'g' takes at most 1\. Remove"
    ):
        choose_consistency(recipe, SHOWN, generator="g")


def test_none_is_always_possible() -> None:
    assert choose_consistency(StoryRecipe(premise="x", consistency="none"), PLAIN, generator="g") == "none"
