"""Tell the stories of a batch, each in a folder of its own, and write it as a book.

The step holds the reasoner and the generator, for all its stories. A story is saved after every step, so one that is
run again, in this process or in another, continues in its folder. An item's data has the `recipe`, the `home` that its
picture paths are relative to, and the `folder` of the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ToolError
from mgem_agent.scale.batch import run_items
from mgem_agent.scale.batch_row import BatchItem, BatchRow
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.workflows.book import BookFolder, BookFormat
from mgem_agent.workflows.recipe_options import has_everything, validated_recipe
from mgem_agent.workflows.story import STORY_FILE, Story, read_story, what_failed
from mgem_agent.workflows.storytelling import tell_story

__all__ = ["StoryParts", "StoryStep"]


@dataclass(frozen=True)
class StoryParts:
    """What tells stories.

    Attributes:
        generator: The generator.
        open_reasoner: Creates the chat model that writes, when a story needs one.
        store: The picture store.
        forms: Formats of the books.
        options: Further arguments of `Storyteller`, such as `budget`.
        page_scoring: Returns the arguments of `Storyteller` for scores of pages, if it can ask for a chat model.
        shows_scores: Whether the last page of a book has the scores.
        scores_pages: Whether pages are scored, so that a finished story may have pages without a score.
    """

    generator: ImageGenerator
    open_reasoner: Callable[[], BaseChatModel]
    store: ArtifactStore
    forms: tuple[BookFormat, ...] = ("html", "md", "pdf")
    options: Mapping[str, Any] = field(default_factory=dict)
    page_scoring: Callable[[Callable[[], BaseChatModel]], dict[str, Any]] = lambda judge: {}
    shows_scores: bool = False
    scores_pages: bool = False


class StoryStep:
    """Tells stories.

    Args:
        parts: What tells them.
    """

    def __init__(self, parts: StoryParts) -> None:
        self._parts = parts
        self._made: BaseChatModel | None = None

    def run(self, items: Sequence[BatchItem]) -> Iterator[BatchRow]:
        """Tell stories one after another; see `BatchStep`."""
        return run_items(items, self._tell)

    def _tell(self, item: BatchItem) -> tuple[Sequence[str], dict[str, Any]]:
        """Tell or continue a story, and write its book.

        Raises:
            InputError: If the recipe is not valid, or the folder holds another story.
            ToolError: If pictures failed or the story stopped early. The book has what is finished.
        """
        folder = Path(item.data["folder"])
        recipe = validated_recipe(item.data["recipe"]).in_folder(Path(item.data["home"]))
        book = BookFolder(folder, self._parts.store)
        book.check(self._parts.forms)
        try:
            story = self._finished(folder) or tell_story(
                recipe,
                None if has_everything(recipe) else self._reasoner(),
                self._parts.generator,
                folder=folder,
                store=self._parts.store,
                **self._parts.options,
                **self._parts.page_scoring(self._reasoner),
            )
        except ToolError:
            if (folder / STORY_FILE).exists():
                self._write(book, read_story(folder))
            raise
        files = self._write(book, story)
        failure = what_failed(story)
        if failure is not None:
            raise failure
        pictures = [scene.artifact_id for scene in story.scenes]
        return files, {"title": story.title, "artifact_ids": pictures, "notices": list(story.notices)}

    def _finished(self, folder: Path) -> Story | None:
        """Return the story of a folder that needs nothing any more."""
        if not (folder / STORY_FILE).exists():
            return None
        story = read_story(folder)
        is_scored = not (self._parts.scores_pages and story.has_unscored_pages)
        return story if story.is_complete and is_scored else None

    def _write(self, book: BookFolder, story: Story) -> list[str]:
        if not any(scene.text or scene.artifact_id for scene in story.scenes):
            return []
        return [str(path) for path in book.write(story, self._parts.forms, scores=self._parts.shows_scores).files]

    def _reasoner(self) -> BaseChatModel:
        if self._made is None:
            self._made = self._parts.open_reasoner()
        return self._made
