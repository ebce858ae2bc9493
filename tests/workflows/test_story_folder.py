"""The folder of a story: held by one, written at every step, and pictures found that nobody came to note."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, ToolError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult
from mgem_agent.workflows.story import Story, StoryScene, read_story
from mgem_agent.workflows.story_folder import StoryDraft, find_drawn, hold_folder, scene_key
from mgem_agent.workflows.story_recipe import StoryRecipe

FOX = ImageRequest(prompt="a fox", seed=7)
OWL = ImageRequest(prompt="an owl", seed=7)


def a_story(begun: datetime | None = None) -> Story:
    now = begun or datetime.now(UTC)
    scenes = (StoryScene(index=1), StoryScene(index=2))
    recipe = StoryRecipe.from_premise("A fox.")
    return Story(version="0.1.0", session="s", created=now, updated=now, recipe=recipe, scenes=scenes, generator="flat")


def test_one_at_a_time_and_free_again_afterwards(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "book"):
        with pytest.raises(
            InputError, match=r"^Another process is working on the story in .*\. Wait until it is done, or use"
        ):
            hold_folder(tmp_path / "book").__enter__()
        with hold_folder(tmp_path / "another"):
            pass
    with hold_folder(tmp_path / "book"):
        pass


def test_a_holder_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    held = hold_folder(tmp_path / "book")
    held.__enter__()
    ending = threading.Timer(0.1, held.__exit__, (None, None, None))
    ending.start()
    with hold_folder(tmp_path / "book"):
        ending.join()
    with hold_folder(tmp_path / "book"), pytest.raises(InputError, match="Another process"):
        hold_folder(tmp_path / "book", wait_s=0).__enter__()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match=r"The folder .* cannot be created: Not a directory\. Give a writable one"):
        hold_folder(tmp_path / "file" / "book").__enter__()


def test_each_change_is_on_the_disk(tmp_path: Path) -> None:
    draft = StoryDraft(tmp_path, a_story())
    [scene] = draft.change_scenes({2: {"text": "It ran."}})
    assert scene.text == "It ran." and read_story(tmp_path).scenes[1].text == "It ran."
    assert draft.notice("Two.").message == "Two."
    draft.notice("Two.")
    assert read_story(tmp_path).notices == ("Two.",)
    assert read_story(tmp_path).updated >= draft.story.created


def test_pictures_that_nobody_noted_are_found(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    drawn = draw(FlatColourGenerator(size=(16, 16)), [FOX])
    [stored] = [store.put(result) for result in drawn if isinstance(result, ImageResult)]
    assert find_drawn(store, a_story(), {1: OWL, 2: FOX}) == {2: stored}
    assert find_drawn(store, a_story().model_copy(update={"generator": "other"}), {2: FOX}) == {}
    assert find_drawn(store, a_story(datetime.now(UTC) + timedelta(days=1)), {2: FOX}) == {
        2: stored
    }  # a set-back clock


def test_pictures_without_a_seed_are_found_by_the_scene_that_they_were_drawn_for(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    story, bare = a_story(), ImageRequest(prompt="a fox")
    [drawn] = [each for each in draw(FlatColourGenerator(size=(16, 16)), [bare]) if isinstance(each, ImageResult)]
    store.put(drawn)
    assert find_drawn(store, story, {1: bare, 2: bare}) == {}
    stored = store.put(replace(drawn, call=scene_key(story, 2, bare)))
    assert find_drawn(store, story, {1: bare, 2: bare}) == {2: stored}
