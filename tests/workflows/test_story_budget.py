"""A story stops at its budget, and continues with a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mgem_agent.agent.events import AgentNotice
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.budget import Cost
from mgem_agent.workflows import StoryRecipe, Storyteller, tell_story

SCENES = [{"text": f"Page {page}.", "caption": f"a mouse with {page} keys"} for page in (1, 2, 3)]
RECIPE = StoryRecipe(title="Keys", kind="how_to", scenes=SCENES)


@pytest.fixture
def make(tmp_path: Path) -> Any:
    generator = FlatColourGenerator(size=(16, 16), num_steps=1)

    def made(reasoner: Any = None, **options: Any) -> Storyteller:
        return Storyteller(reasoner, generator, ArtifactStore(tmp_path / "images"), folder=tmp_path / "book", **options)

    made.generator = generator  # type: ignore[attr-defined]
    return made


def test_it_stops_where_it_is_and_goes_on(make: Any) -> None:
    events = list(make(budget="2pictures", prices={"flat": {"picture": 0.5}}).stream(RECIPE))
    assert events[-1].kind == "stopped"
    [notice] = [event.message for event in events if isinstance(event, AgentNotice)]
    assert notice.startswith("The budget of this book is 2 pictures. Spent: 2 pictures.")
    story = events[-1].story
    assert [scene.status for scene in story.scenes] == ["drawn", "drawn", "written"]
    assert [scene.cost_usd for scene in story.scenes] == [0.5, 0.5, None]
    assert Cost.read(story.cost).usd == 1.0
    assert make(budget="2pictures").resume().scenes[2].status == "written"
    story = make(budget="3pictures").resume()
    assert story.is_complete and Cost.read(story.cost).pictures == 3
    assert len(make.generator.drawn) == 3


def test_a_recipe_has_a_budget_that_an_option_overrides(make: Any, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"budget": "1pictures"})
    assert [scene.status for scene in make().run(recipe).scenes] == ["drawn", "written", "written"]
    store = ArtifactStore(tmp_path / "images")
    options: dict[str, Any] = {"folder": tmp_path / "book", "store": store, "budget": "9pictures"}
    assert tell_story(RECIPE, None, make.generator, **options).is_complete
    with pytest.raises(ValidationError, match="is not an amount with a unit"):
        StoryRecipe(premise="A mouse.", budget="much")


def test_a_text_past_the_budget_is_not_asked_for(make: Any) -> None:
    reasoner = ScriptedReasoner(script=["Never written."])
    story = make(reasoner, budget="5tokens").run(StoryRecipe(premise="A mouse opens a shop.", scenes=1))
    assert story.state == "outlining" and reasoner.requests == ()


def test_time_stops_a_drawing(tmp_path: Path) -> None:
    slow = FlatColourGenerator(size=(16, 16), num_steps=50, delay_s=30.0)
    teller = Storyteller(None, slow, ArtifactStore(tmp_path / "images"), folder=tmp_path / "book", budget="0.3s")
    events = list(teller.stream(RECIPE))
    assert events[-1].kind == "stopped" and Cost.read(events[-1].story.cost).seconds >= 0.3
    assert AgentNotice("The story has used the seconds of its budget. Raise the budget to go on: --budget") in events
