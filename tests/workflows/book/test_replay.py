from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw, make_generator
from mgem_agent.workflows import StoryScene
from mgem_agent.workflows.book import BookFolder, ReplayedPicture, replay_story

SAME = "the same picture, byte for byte"


def replayed(*arguments: Any, **options: Any) -> list[ReplayedPicture]:
    return [event for event in replay_story(*arguments, **options) if isinstance(event, ReplayedPicture)]


def test_every_picture_is_the_same(make_story: Any, store: ArtifactStore) -> None:
    story = make_story(2)
    assert [
        (each.index, each.after, each.is_same, each.verdict) for each in replayed(story, store, make_generator)
    ] == [(scene.index, scene.artifact_id, True, SAME) for scene in story.scenes[:2]]


def test_single_pages(make_story: Any, store: ArtifactStore) -> None:
    story = make_story(2)
    assert [each.index for each in replayed(story, store, make_generator, pages=(2,))] == [2]
    with pytest.raises(InputError, match=r"^Page\(s\) 3, 9 have no drawn picture\. Pages with one: 1, 2\.$"):
        replayed(story, store, make_generator, pages=(9, 2, 3))


def test_from_the_record_alone(make_story: Any, tmp_path: Path) -> None:
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    assert [each.verdict for each in replayed(make_story(), elsewhere, make_generator)] == [SAME] * 3
    assert len(elsewhere.list()) == 3


def test_a_picture_that_comes_out_otherwise(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    story = make_story()
    first = story.scenes[0].model_copy(update={"executed": ImageRequest(prompt="an owl", seed=1, width=32, height=32)})
    changed = story.model_copy(update={"scenes": (first, *story.scenes[1:])})
    verdicts = [each.verdict for each in replayed(changed, store, make_generator)]
    assert verdicts[0].startswith("another picture: pixels differ by up to ") and verdicts[1:] == [SAME] * 2
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    assert replayed(changed, elsewhere, make_generator)[0].verdict.endswith(
        "the old one is not available for comparison"
    )


def test_a_picture_that_fails_costs_no_other(make_story: Any, store: ArtifactStore) -> None:
    found = replayed(make_story(), store, lambda _: FlatColourGenerator(fail_on="part 2"))
    assert [each.is_same for each in found] == [True, False, True]
    assert found[1].after is None and found[1].verdict.startswith("not drawn: The card ")


def test_pictures_made_from_others_come_after_them(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    story = make_story()
    first = story.scenes[0]
    request = ImageRequest(prompt="the fox again", seed=9, width=32, height=32, references=(first.artifact_id,))
    pictures = {first.artifact_id: store.open(first.artifact_id)}
    [result] = [
        event for event in draw(FlatColourGenerator(), [request], pictures=pictures) if isinstance(event, ImageResult)
    ]
    second = StoryScene(
        index=2, status="drawn", artifact_id=store.put(result).id, executed=result.executed, generator="flat"
    )
    both = story.model_copy(update={"scenes": (second, first)})
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    assert [each.verdict for each in replayed(both, elsewhere, make_generator)] == [SAME] * 2
    alone = story.model_copy(update={"scenes": (second,)})
    nowhere = ArtifactStore(tmp_path / "nowhere")
    assert "is neither in the store nor in the folder" in replayed(alone, nowhere, make_generator)[0].verdict
    folder = BookFolder(tmp_path / "book", store)
    folder.write(both, ["md"])
    assert replayed(alone, nowhere, make_generator, folder=folder.folder)[0].verdict == SAME
