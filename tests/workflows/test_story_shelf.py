"""A folder of stories."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.story_shelf import StoryShelf
from mgem_agent.workflows.storytelling import Storyteller

RECIPE = StoryRecipe.model_validate(
    {"title": "T", "kind": "explainer", "scenes": [{"title": "h", "text": "a text here", "caption": "c"}]}
)


def test_stories_are_listed_latest_first_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    shelf = StoryShelf(tmp_path / "stories")
    assert shelf.list() == []
    names = [shelf.new_name("A mouse; a cat!"), shelf.new_name("Ünïcode 北京")]
    for name in names:
        store = ArtifactStore(tmp_path / "images")
        Storyteller(None, FlatColourGenerator(size=(16, 16)), store, folder=shelf.folder(name)).run(RECIPE)
    assert [each.name for each in shelf.list()] == names[::-1]
    assert shelf.get(names[0]).story.title == "T"
    (shelf.folder(names[1]) / "story.json").write_text("{")
    assert [each.name for each in shelf.list()] == names[:1]


@pytest.mark.parametrize("name", ["..", "a/b", "A", "", "-a", "a--b", "x" * 81, "a\n"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not the name of a story"):
        StoryShelf(tmp_path).get(name)


def test_a_missing_story_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no story 'a-b'"):
        StoryShelf(tmp_path).get("a-b")


def test_stories_with_pictures_at_an_address_are_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    first, second = (ArtifactStore(f"memory://{tmp_path.name}/{name}") for name in ("a", "b"))
    shelf = StoryShelf.beside(first)
    assert shelf.root.is_relative_to(tmp_path / "home") and shelf.root != StoryShelf.beside(second).root
    Storyteller(None, FlatColourGenerator(size=(16, 16)), first, folder=shelf.folder("a-story")).run(RECIPE)
    [told] = shelf.list()
    [scene] = told.story.scenes
    assert scene.artifact_id == first.list()[0].id
