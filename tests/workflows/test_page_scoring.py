"""Pages are scored in the loop, and those that fail are drawn again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.workflows import StoryRecipe, Storyteller
from mgem_agent.workflows.book import make_book
from mgem_agent.workflows.page_score import PageScore

RECIPE = StoryRecipe(
    title="Keys",
    cast=[{"name": "Mia", "looks": "a grey mouse"}],
    scenes=[
        {"text": "One.", "caption": "Mia and a key", "characters": ["Mia"]},
        {"text": "Two.", "caption": "Mia and a door", "characters": ["Mia"]},
    ],
)


class Colours:
    """An encoder by the mean colour."""

    name = "colours"

    def contents(self, pictures: list[Image.Image]) -> torch.Tensor:
        rows = torch.tensor([picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures]).float()
        return torch.nn.functional.normalize(rows, dim=-1)

    styles = contents


def judged(yes: bool) -> Any:
    """A judge's answer, with as many answers as there are questions."""

    def answer(request: Any) -> str:
        num = request.dialogue[-1]["content"][-1]["text"].count("?\n")
        return json.dumps({"answers": ["yes" if yes else "no"] * num})

    return answer


@pytest.fixture
def make(tmp_path: Path) -> Any:
    generator = FlatColourGenerator(size=(16, 16), num_steps=1)

    def made(*script: Any, judge: Any = None, **options: Any) -> Storyteller:
        judge = judge or ScriptedReasoner(script=script)
        store = ArtifactStore(tmp_path / "images")
        return Storyteller(None, generator, store, folder=tmp_path / "book", judge=judge, **options)

    made.generator = generator  # type: ignore[attr-defined]
    return made


def test_scores_are_in_the_story_and_on_the_last_page(make: Any) -> None:
    teller = make(judged(True), judged(True), scores=True, encoder=Colours())
    story = teller.run(RECIPE)
    first, second = (scene.score for scene in story.scenes)
    assert first.cast == {"Mia": 1.0} and first.likeness == {} and first.style is None
    assert second.caption.score == 1.0 and 0 < second.likeness["Mia"] <= 1 and 0 < second.style <= 1
    assert second.encoder == "colours" and teller.story() == story
    assert make_book(story, teller.store, scores=True).facts[-2].startswith("1: 1.00 (caption 1.00, Mia 1.00)")
    assert "caption" not in " ".join(make_book(story, teller.store).facts)


def test_a_page_that_fails_is_drawn_again_and_the_best_is_kept(make: Any) -> None:
    events = list(make(judged(True), judged(False), judged(True), look="retry").stream(RECIPE))
    story = events[-1].story
    assert [event.index for event in events if event.kind == "scored"] == [1, 2, 2]
    assert len(make.generator.drawn) == 3
    attempts = story.scenes[1].attempts
    assert attempts[0].missing == ("Mia",) and story.scenes[1].artifact_id == attempts[1].artifact_id
    assert story.scenes[1].score == attempts[1]


def test_a_worse_picture_is_not_kept(make: Any) -> None:
    story = make(judged(False), judged(False), judged(False), judged(False), look="retry-1").run(RECIPE)
    assert [scene.artifact_id for scene in story.scenes] == [scene.attempts[0].artifact_id for scene in story.scenes]
    assert len(make.generator.drawn) == 4


def test_redraws_keep_to_the_budget(make: Any) -> None:
    events = list(make(judged(False), judged(False), judged(True), look="retry-5", budget="3pictures").stream(RECIPE))
    assert events[-1].kind == "stopped" and len(make.generator.drawn) == 3
    assert all(scene.status == "drawn" for scene in events[-1].story.scenes)


def test_a_story_that_stopped_at_its_budget_takes_up_its_redraws(make: Any) -> None:
    make(*[judged(False)] * 3, look="retry-1", budget="3pictures").run(RECIPE)
    assert len(make.generator.drawn) == 3
    story = make(*[judged(False)] * 2, look="retry-1", budget="9pictures").resume()
    assert story.is_complete and len(make.generator.drawn) == 4
    assert [len(scene.attempts) for scene in story.scenes] == [2, 2]


def test_a_finished_story_is_scored_on_demand(make: Any) -> None:
    assert make().run(RECIPE).has_unscored_pages
    story = make(judged(True), judged(True), scores=True).resume()
    assert not story.has_unscored_pages and len(make.generator.drawn) == 2


def test_attempts_are_in_the_record_of_the_picture(make: Any) -> None:
    teller = make(judged(True), judged(False), judged(True), look="retry")
    page = teller.run(RECIPE).scenes[1]
    attempts = teller.store.get(page.artifact_id).attempts
    assert [each.picture for each in attempts] == [each.artifact_id for each in page.attempts]
    assert [each.score for each in attempts] == [0.0, 1.0] and "door" in attempts[0].prompt


def test_without_a_model_that_sees_there_are_no_scores(make: Any) -> None:
    blind = ScriptedReasoner(script=[], profile={"image_inputs": False})
    story = make(judge=blind, scores=True).run(RECIPE)
    assert story.is_complete and all(scene.score is None for scene in story.scenes)
    assert story.notices == ("The pages are not scored, because there is no model that sees pictures.",)


def test_a_page_passes_by_its_cast_and_its_threshold() -> None:
    score = PageScore(artifact_id="img-1234", cast={"Mia": 1.0, "Tim": 0.2})
    assert score.score == pytest.approx(0.6) and score.missing == ("Tim",)
    assert score.passes(0.5) and not score.passes(0.7) and not score.passes(None)
    assert PageScore(artifact_id="img-1234").passes(0.9)
