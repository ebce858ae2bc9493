"""`mgem story --batch`: tell several stories, each in a folder of its own, in one process or on Ray."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.cli.batches import batch_folder, run_and_show, seen_by_workers
from mgem_agent.cli.story_recipes import ENDINGS, find_recipe
from mgem_agent.errors import InputError
from mgem_agent.workflows.recipe_options import has_everything, with_options

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mgem_agent.scale.batch_row import BatchItem
    from mgem_agent.scale.ray_cluster import RayOptions
    from mgem_agent.scale.story_step import StoryStep
    from mgem_agent.settings import Settings
    from mgem_agent.workflows.book import BookFormat

__all__ = ["StoryStepMaker", "story_batch"]

MAX_NAME_CHARS = 60


@dataclass(frozen=True)
class StoryStepMaker:
    """Creates the step of a batch in the process that tells its stories.

    Attributes:
        settings: The settings.
        forms: Formats of the books.
    """

    settings: Settings
    forms: tuple[BookFormat, ...]

    def __call__(self) -> StoryStep:
        """Return the step; weights are loaded at the first page."""
        from mgem_agent.cli.factories import open_generator, open_page_scoring, open_store
        from mgem_agent.scale.story_step import StoryParts, StoryStep

        settings = self.settings
        return StoryStep(
            StoryParts(
                open_generator(settings),
                self._open_reasoner,
                open_store(settings),
                self.forms,
                options={"budget": settings.budgets, "prices": settings.prices},
                page_scoring=lambda judge: open_page_scoring(settings, judge),
                shows_scores=settings.story.scores,
                scores_pages=settings.scores_pages,
            )
        )

    def _open_reasoner(self) -> BaseChatModel:
        from mgem_agent.cli.factories import open_reasoner, prepare_reasoner

        reasoner = open_reasoner(self.settings)
        prepare_reasoner(self.settings, reasoner)
        return reasoner


def story_batch(
    recipes: Sequence[str],
    options: dict[str, Any],
    settings: Settings,
    forms: tuple[BookFormat, ...],
    *,
    out: Path,
    ray: RayOptions | None,
    as_json: bool,
) -> None:
    """Tell stories.

    Args:
        recipes: Recipe files, names of built-in recipes, or premises.
        options: Values by recipe key, for all recipes.
        settings: All settings.
        forms: Formats of the books.
        out: Folder of the manifest; each story has a folder in it.
        ray: Where it runs; None for this process.
        as_json: Whether to print one JSON object.

    Raises:
        InputError: If a recipe is not valid; nothing is told then.
        Exit: With status 1 if a story failed.
    """
    from mgem_agent.cli.factories import open_generator, open_reasoner, prepare_reasoner
    from mgem_agent.scale.batch_row import BatchItem

    folder = batch_folder(out)
    settings = seen_by_workers(settings, on_ray=ray is not None)
    open_generator(settings)  # an unknown name is an error now, and not in the workers
    items: dict[str, BatchItem] = {}
    needs_reasoner = settings.scores_pages
    for words in recipes:
        found, home = find_recipe(words)
        recipe = with_options(found, home, options, settings.picture.model_dump(exclude_none=True))
        needs_reasoner = needs_reasoner or not has_everything(recipe)
        data = {"recipe": recipe.model_dump(mode="json"), "home": str(home.absolute()), "forms": list(forms)}
        name = _name(words)
        if name in items:
            name = f"{name}-{BatchItem('', data).fingerprint[:8]}"
        if name in items:
            raise InputError(f"The story {words!r} was given twice. Leave one out, or change one of the recipes.")
        items[name] = BatchItem(name, {**data, "folder": str(folder / name)})
    if needs_reasoner:
        prepare_reasoner(settings, open_reasoner(settings))  # downloads it once, and not in each worker
    maker = StoryStepMaker(settings, forms)
    run_and_show("stories", list(items.values()), maker, folder, ray, as_json=as_json)


def _name(words: str) -> str:
    """Return the name of a story's folder: of its recipe, or of the first words of its premise."""
    text = words.strip()
    if text.lower().endswith(ENDINGS):
        return Path(text).stem
    return "-".join(re.findall(r"\w+", text.lower())[:6])[:MAX_NAME_CHARS] or "story"
