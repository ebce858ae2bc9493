"""One page of a finished story is changed; the others and the earlier picture are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.workflows.story_events import SceneWritten, StoryFinished, StoryStopped
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.story_revision import PageRevision
from mgem_agent.workflows.storytelling import Storyteller

Teller = Callable[..., Storyteller]


@pytest.fixture
def told(teller: Teller) -> Storyteller:
    maker = teller()
    maker.run(StoryRecipe.from_premise("A dragon.", scenes=3))
    return maker


def test_a_text_is_written_again_and_everything_else_is_kept(told: Storyteller, author: Any) -> None:
    before = told.story()
    author.answers = {"Write it anew": "The desert glowed. A fox watched it.", **author.answers}
    events = list(told.stream_revision(PageRevision(index=2, write=True, wish="Add a fox.")))
    after = told.story()
    assert after.scenes[1].text == "The desert glowed. A fox watched it."
    assert "Add a fox." in author.asked[-1] and before.scenes[1].text in author.asked[-1]
    assert after.scenes[1].artifact_id == before.scenes[1].artifact_id
    assert (after.scenes[0], after.scenes[2]) == (before.scenes[0], before.scenes[2])
    assert after.is_complete and isinstance(events[-1], StoryFinished)
    assert any(isinstance(event, SceneWritten) and event.scene.index == 2 for event in events)


def test_a_text_that_stays_the_same_is_reported(told: Storyteller) -> None:
    events = list(told.stream_revision(PageRevision(index=1, write=True)))
    assert [event.message for event in events if isinstance(event, AgentNotice)] == [
        "The reasoner wrote no other text for scene 1; its text was kept."
    ]


def test_a_picture_is_drawn_alone_and_the_earlier_one_can_be_chosen_again(told: Storyteller) -> None:
    old = told.story().scenes[0]
    revision = PageRevision(index=1, caption="Ember sleeps by a lake", draw=True, seed=11)
    events = list(told.stream_revision(revision))
    assert [event.call_id for event in events if isinstance(event, PictureDrawn)] == ["scene-1"]
    new = told.story().scenes[0]
    assert new.artifact_id != old.artifact_id and new.earlier_ids == (old.artifact_id,)
    assert new.executed is not None and new.executed.seed == 11 and "by a lake" in new.executed.prompt
    assert new.characters == ("Ember",) and new.alt_text == "Ember sleeps by a lake"
    told.store.path(old.artifact_id or "")
    back = told.revise(PageRevision(index=1, picture=old.artifact_id)).scenes[0]
    assert back.artifact_id == old.artifact_id and back.executed == old.executed
    assert back.earlier_ids == (new.artifact_id,)
    with pytest.raises(InputError, match="is not an earlier picture of page 1"):
        told.revise(PageRevision(index=1, picture=told.story().scenes[1].artifact_id))


def test_the_same_picture_again_is_reported(told: Storyteller) -> None:
    seed = told.story().seed
    events = list(told.stream_revision(PageRevision(index=1, draw=True, seed=seed)))
    assert "drew the same picture for page 1 again" in [e.message for e in events if isinstance(e, AgentNotice)][0]
    assert told.story().scenes[0].earlier_ids == ()


def test_a_page_keeps_its_picture_if_the_new_one_fails(told: Storyteller, teller: Teller) -> None:
    old = told.story().scenes[2]
    failing = teller(FlatColourGenerator(size=(32, 32), fail_on="a lake"))
    events = list(failing.stream_revision(PageRevision(index=3, caption="a lake", draw=True)))
    assert any(isinstance(event, DrawingFailed) for event in events)
    kept = told.story().scenes[2]
    assert (kept.artifact_id, kept.status, kept.executed, kept.message) == (old.artifact_id, "drawn", old.executed, "")
    assert kept.caption == "a lake" and kept.earlier_ids == ()
    assert told.story().is_complete


def test_a_page_keeps_its_picture_if_drawing_is_stopped(told: Storyteller) -> None:
    old = told.story()
    events = []
    for event in told.stream_revision(PageRevision(index=1, caption="a lake", draw=True)):
        events.append(event)
        if isinstance(event, DrawingProgress):
            told.cancel()
    assert isinstance(events[-1], StoryStopped)
    assert told.story().scenes[0].artifact_id == old.scenes[0].artifact_id
    assert told.story().is_complete


def test_a_new_picture_is_not_drawn_with_the_page_as_its_own_reference(teller: Teller) -> None:
    able = FlatColourGenerator.CAPABILITIES
    maker = teller(FlatColourGenerator(size=(32, 32), capabilities=able))
    story = maker.run(StoryRecipe.from_premise("A dragon.", scenes=3, consistency="reference"))
    assert story.reference_ids == (story.scenes[0].artifact_id,)
    after = maker.revise(PageRevision(index=1, caption="a lake", draw=True))
    assert after.scenes[0].executed is not None and after.scenes[0].executed.references == ()
    other = maker.revise(PageRevision(index=2, caption="a hill", draw=True))
    assert other.scenes[1].executed is not None and other.scenes[1].executed.references == story.reference_ids


def test_a_page_that_is_not_written_cannot_be_changed(teller: Teller, tmp_path: Any) -> None:
    waiting = teller(approve_outline=True)
    waiting.run(StoryRecipe.from_premise("A dragon.", scenes=3))
    for index in (1, 9):
        with pytest.raises(InputError, match="is not written yet"):
            waiting.revise(PageRevision(index=index, draw=True))


@pytest.mark.parametrize(
    "fields", [{"write": True, "text": "x"}, {"draw": True, "picture": "img-0123"}, {"text": " "}, {"caption": ""}]
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Give one of them|cannot be empty"):
        PageRevision(index=1, **fields)


def test_a_stored_picture_that_was_deleted_cannot_be_chosen(told: Storyteller) -> None:
    old = told.story().scenes[0].artifact_id or ""
    told.revise(PageRevision(index=1, caption="a lake", draw=True))
    ArtifactStore(told.store.root).path(old).unlink()
    with pytest.raises(InputError, match="There is no picture"):
        told.revise(PageRevision(index=1, picture=old))
