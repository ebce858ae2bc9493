"""Options and defaults of a story recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.workflows.recipe_options import has_everything, validated_recipe, with_options
from mgem_agent.workflows.story_recipe import StoryRecipe

RECIPE = {
    "title": "The Key",
    "cast": [{"name": "Mouse", "looks": "a grey mouse"}],
    "scenes": [{"title": "One", "text": "The mouse finds a key.", "caption": "a mouse with a key"}],
}


def test_options_override_the_recipe_and_the_recipe_overrides_defaults() -> None:
    recipe = StoryRecipe(premise="A mouse.")
    told = with_options(recipe, Path(), {"style": "ink", "seed": None}, {"width": 64, "style": "oil"})
    assert (told.style, told.width, told.seed) == ("ink", 64, None)
    stated = StoryRecipe(premise="x", width=32)
    assert with_options(stated, Path(), {}, {"width": 64}).width == 32
    with pytest.raises(InputError, match="width: Input should be greater than or equal to 16"):
        with_options(recipe, Path(), {}, {"width": 1})


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(InputError, match="The recipe is not valid: kind"):
        validated_recipe({"premise": "A mouse.", "kind": "opera"})


def test_a_complete_recipe_needs_no_reasoner() -> None:
    assert has_everything(StoryRecipe.model_validate(RECIPE))
    assert not has_everything(StoryRecipe(premise="A mouse."))
    assert not has_everything(StoryRecipe.model_validate({**RECIPE, "cast": []}))
    assert has_everything(StoryRecipe.model_validate({**RECIPE, "cast": [], "kind": "how_to"}))
