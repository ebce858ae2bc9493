"""Decisions of a person on an outline."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mgem_agent.errors import InputError
from mgem_agent.workflows.outline_decision import OutlineDecision, apply_outline_decision, read_outline_decision
from mgem_agent.workflows.story import Story, StoryCharacter, StoryScene
from mgem_agent.workflows.story_recipe import StoryRecipe

NOW = datetime.now(UTC)
STORY = Story(
    version="0.1.0",
    session="s",
    created=NOW,
    updated=NOW,
    recipe=StoryRecipe.from_premise("A mouse.", scenes=2),
    scenes=(StoryScene(index=1, title="The key", summary="It shines."), StoryScene(index=2, summary="It opens.")),
)


def test_words_are_decisions() -> None:
    assert apply_outline_decision(STORY, read_outline_decision("approve")) == {"state": "telling"}
    assert apply_outline_decision(STORY, read_outline_decision("refuse")) == {"state": "refused"}
    with pytest.raises(InputError, match=r"^'maybe' is not a decision\. Allowed: 'approve', 'refuse', or an Outline"):
        read_outline_decision("maybe")


def test_edits_change_what_they_name() -> None:
    cast = (StoryCharacter(name="Pip", looks="a grey mouse"),)
    decision = OutlineDecision(title="Keys", outline=("The key: It shines.", "The lock:  It breaks."), cast=cast)
    changes = apply_outline_decision(STORY, decision)
    assert (changes["title"], changes["cast"]) == ("Keys", cast)
    assert changes["scenes"][0] is STORY.scenes[0]
    assert (changes["scenes"][1].title, changes["scenes"][1].summary) == ("The lock", "It breaks.")


@pytest.mark.parametrize("outline", [("One line.",), ("One.", " ")])
def test_an_outline_of_another_length(outline: tuple[str, ...]) -> None:
    with pytest.raises(
        InputError, match=r"has 1 non-empty lines; the story has 2 scenes\. Give one line for each scene"
    ):
        apply_outline_decision(STORY, OutlineDecision(outline=outline))
