from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.scale.batch_row import BatchItem, BatchRow
from mgem_agent.scale.story_step import StoryParts, StoryStep
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.workflows import StoryRecipe, read_story


def no_reasoner() -> BaseChatModel:
    raise AssertionError("the recipe is complete")


def item_of(folder: Path, key: str, *things: str) -> BatchItem:
    scenes = [{"text": f"There is a {thing}.", "caption": f"a {thing}"} for thing in things]
    recipe = StoryRecipe(title=key, kind="explainer", scenes=scenes, width=32, height=32)  # type: ignore[arg-type]
    data = {"recipe": recipe.model_dump(mode="json"), "home": str(folder), "folder": str(folder / key)}
    return BatchItem(key, data)


def tell(tmp_path: Path, generator: FlatColourGenerator, *items: BatchItem, **parts: Any) -> list[BatchRow]:
    store = ArtifactStore(tmp_path / "store")
    step = StoryStep(StoryParts(generator, parts.pop("reasoner", no_reasoner), store, forms=("md",), **parts))
    return list(step.run(items))


def test_stories_are_told_as_books(tmp_path: Path) -> None:
    rows = tell(
        tmp_path, FlatColourGenerator(), item_of(tmp_path, "one", "fox", "hen"), item_of(tmp_path, "two", "cat")
    )
    assert [(row.key, row.status, row.result["title"]) for row in rows] == [
        ("one", "done", "one"),
        ("two", "done", "two"),
    ]
    assert rows[0].files == (str(tmp_path / "one" / "book.md"),) and len(rows[0].result["artifact_ids"]) == 2
    assert "There is a cat." in (tmp_path / "two" / "book.md").read_text()


def test_a_story_whose_pictures_fail_is_a_failed_row_and_continues(tmp_path: Path) -> None:
    items = [item_of(tmp_path, "one", "hen", "ghost"), item_of(tmp_path, "two", "cat")]
    rows = tell(tmp_path, FlatColourGenerator(fail_on="ghost"), *items)
    assert [row.status for row in rows] == ["failed", "done"]
    assert rows[0].error.startswith("1 of 2 pictures failed") and rows[0].retryable
    assert "There is a hen." in (tmp_path / "one" / "book.md").read_text()
    generator = FlatColourGenerator()
    assert [row.status for row in tell(tmp_path, generator, *items)] == ["done", "done"]
    assert [request.prompt[:7] for request in generator.drawn] == ["a ghost"]


def test_a_folder_with_another_story_is_kept(tmp_path: Path) -> None:
    tell(tmp_path, FlatColourGenerator(), item_of(tmp_path, "one", "fox"))
    item = item_of(tmp_path, "one", "hen", "cat")
    (tmp_path / "one" / "story.json").write_text(
        (tmp_path / "one" / "story.json").read_text().replace('"state": "finished"', '"state": "telling"')
    )
    rows = tell(tmp_path, FlatColourGenerator(), item)
    assert "has a different recipe" in rows[0].error
    assert len(read_story(tmp_path / "one").scenes) == 1


def test_the_reasoner_is_made_once_and_when_it_is_needed(tmp_path: Path) -> None:
    made: list[BaseChatModel] = []

    def reasoner() -> BaseChatModel:
        made.append(ScriptedReasoner(script=["The key"], is_endless=True))
        return made[-1]

    recipe = StoryRecipe(premise="A mouse finds a key.", scenes=1, kind="explainer", width=32, height=32)
    data = {"recipe": recipe.model_dump(mode="json"), "home": str(tmp_path)}
    items = [BatchItem(name, {**data, "folder": str(tmp_path / name)}) for name in ("one", "two")]
    rows = tell(tmp_path, FlatColourGenerator(), *items, reasoner=reasoner)
    assert [row.status for row in rows] == ["done", "done"] and len(made) == 1
