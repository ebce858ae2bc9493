"""Drawing a story where something is in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mgem_agent.agent.events import AgentNotice, PictureDrawn
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.errors import GeneratorRefusalError, ToolError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.storytelling import Storyteller

Teller = Callable[..., Storyteller]
SCENES = [{"title": f"h{n}", "text": f"text of {n} here", "caption": f"c{n}"} for n in range(3)]
RECIPE = StoryRecipe.from_premise("P.", title="T", kind="explainer", scenes=SCENES)


class Prim(FlatColourGenerator):
    """Declines the first caption."""

    def generate(self, *args: Any, **options: Any) -> Iterator[GenerationProgress | ImageResult]:
        if args[0][0].prompt.startswith("c0"):
            raise GeneratorRefusalError("Not that.")
        yield from super().generate(*args, **options)


def test_a_refused_first_picture_leaves_the_next_to_be_the_first(teller: Teller) -> None:
    generator = Prim(size=(16, 16))
    story = teller(generator).run(RECIPE)
    assert [scene.status for scene in story.scenes] == ["failed", "drawn", "drawn"]
    assert story.scenes[0].message == "Not that."
    assert story.reference_ids == (story.scenes[1].artifact_id,)
    assert [request.references for request in generator.drawn] == [(), story.reference_ids]


def test_an_ip_adapter_is_shown_the_first_picture(teller: Teller) -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(
        update={"options": frozenset({"ip_adapter_scale"}), "max_references": 1}
    )
    generator = FlatColourGenerator(size=(16, 16), capabilities=able)
    story = teller(generator).run(RECIPE)
    assert story.consistency == "ip_adapter" and story.is_complete
    assert [len(request.references) for request in generator.drawn] == [0, 1, 1]


def test_a_full_disk_costs_the_picture_and_no_other(teller: Teller, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = teller(FlatColourGenerator(size=(16, 16), capabilities=None))
    put = maker.store.put

    def full(result: ImageResult) -> Artifact:
        if result.executed.prompt.startswith("c1"):
            raise ToolError("No space left.", retryable=True)
        return put(result)

    monkeypatch.setattr(maker.store, "put", full)
    assert [scene.status for scene in maker.run(RECIPE).scenes] == ["drawn", "failed", "drawn"]
    monkeypatch.undo()
    assert maker.resume().is_complete


def test_what_is_not_honoured_stands_with_the_scene(teller: Teller) -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"negative_prompt": False})
    recipe = RECIPE.model_copy(update={"negative_prompt": "text"})
    story = teller(FlatColourGenerator(size=(16, 16), capabilities=able)).run(recipe)
    assert story.scenes[0].notices == ("flat does not support negative_prompt; it was left out.",)


def test_a_picture_found_again_is_an_event_and_not_drawn(teller: Teller) -> None:
    maker = teller()
    story = maker.run(RECIPE)
    scenes = tuple(scene.model_copy(update={"status": "written", "artifact_id": None}) for scene in story.scenes[1:])
    story.model_copy(update={"scenes": (story.scenes[0], *scenes)}).write(maker.folder)  # a kill before it was noted
    generator = FlatColourGenerator(size=(16, 16))
    events = list(teller(generator).stream_resume())
    found = [event for event in events if isinstance(event, PictureDrawn)]
    assert [event.call_id for event in found] == ["scene-2", "scene-3"]
    assert all(event.stored_before for event in found) and generator.drawn == []


def test_pictures_that_were_deleted_are_spoken_of(teller: Teller) -> None:
    maker = teller()
    story = maker.run(RECIPE)
    assert story.scenes[2].artifact_id
    maker.store.path(story.scenes[2].artifact_id).unlink()
    notices = [event.message for event in teller().stream_resume() if isinstance(event, AgentNotice)]
    assert notices == ["The picture(s) of scene(s) 3 are no longer in the store and are drawn again."]
