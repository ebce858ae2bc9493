"""What the grammars of a story keep."""

from __future__ import annotations

from mgem_agent.testing import ScriptedReasoner
from mgem_agent.workflows.kept_premise import kept_premise
from mgem_agent.workflows.story_recipe import StoryRecipe

FOX = StoryRecipe.from_premise("A fox in a forest finds a key.", scenes=1)


def test_a_premise_is_kept_if_it_is_wanted_and_can_be() -> None:
    able = ScriptedReasoner(script=["x"], takes_grammars=True)
    kept = kept_premise(FOX, able, is_wanted=True)
    assert kept is not None and kept.hero.endswith("fox")
    assert kept_premise(FOX, able) is None and kept_premise(FOX, None, is_wanted=True) is None
    assert kept_premise(FOX, ScriptedReasoner(script=["x"]), is_wanted=True) is None
    assert kept_premise(FOX.model_copy(update={"language": "de"}), able, is_wanted=True) is None


def test_the_hero_is_the_first_of_the_cast() -> None:
    recipe = StoryRecipe.model_validate(
        {"premise": "A fox finds a key.", "cast": [{"name": "The hare", "looks": "a brown hare"}], "scenes": 1}
    )
    kept = kept_premise(recipe, ScriptedReasoner(script=["x"], takes_grammars=True), is_wanted=True)
    assert kept is not None and kept.hero == "hare"
