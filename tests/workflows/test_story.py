"""The record of a story."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.workflows.story import Story, StoryScene, read_story
from mgem_agent.workflows.story_recipe import StoryRecipe


def a_story(**fields: object) -> Story:
    now = datetime.now(UTC)
    recipe = StoryRecipe.from_premise("A mouse.", scenes=2)
    return Story.model_validate(
        {"version": "0.1.0", "session": "s", "created": now, "updated": now, "recipe": recipe, **fields}
    )


def test_it_is_written_and_read_again(tmp_path: Path) -> None:
    story = a_story(scenes=[StoryScene(index=1, text="é"), StoryScene(index=2, status="failed", message="no")])
    story.write(tmp_path / "book")
    assert read_story(tmp_path / "book").model_dump() == story.model_dump()
    assert read_story(tmp_path / "book" / "story.json").failed_scenes == story.scenes[1:]


def test_whole_is_finished_with_every_picture() -> None:
    drawn = [StoryScene(index=1, status="drawn")]
    assert a_story(state="finished", scenes=drawn).is_complete
    assert not a_story(state="telling", scenes=drawn).is_complete
    assert not a_story(state="finished", scenes=[StoryScene(index=1, status="failed")]).is_complete


def test_what_is_no_story(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^There is no story in .* Give the folder of a story\.$"):
        read_story(tmp_path)
    (tmp_path / "story.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match=r"^This version cannot read the story .* \(format: .*Update mgem-agent"):
        read_story(tmp_path)
    (tmp_path / "story.json").unlink()
    (tmp_path / "story.json").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory. Check the path."):
        read_story(tmp_path)
