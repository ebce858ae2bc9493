"""What the routes of the story desk do: begin, continue and revise stories in the background, and make the book."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError, MgemError
from mgem_agent.recipes.stories import story_recipe_files
from mgem_agent.server.page.live_story import LiveStory
from mgem_agent.server.page.page_state import PageState
from mgem_agent.server.security import User
from mgem_agent.tools.budget import Budget, Budgets
from mgem_agent.workflows.book.book import make_book
from mgem_agent.workflows.book.html import render_html
from mgem_agent.workflows.book.markdown import PICTURE_FOLDER, render_markdown
from mgem_agent.workflows.book.pdf import render_pdf
from mgem_agent.workflows.outline_decision import OutlineDecision
from mgem_agent.workflows.recipe_options import has_everything, with_options
from mgem_agent.workflows.story import STORY_FILE, Story, StoryScene
from mgem_agent.workflows.story_events import StoryEvent
from mgem_agent.workflows.story_recipe import StoryRecipe, load_story_recipe
from mgem_agent.workflows.story_revision import PageRevision
from mgem_agent.workflows.storytelling import Storyteller

__all__ = ["BookFile", "ShippedRecipe", "StoryActions", "outline_text", "shipped_recipes"]

MAX_TITLE_CHARS = 80
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of the files in an archive, so that the same story gives the same archive."""

Events = Callable[[], Generator[StoryEvent, None, None]]


@dataclass(frozen=True, slots=True)
class ShippedRecipe:
    """A recipe that comes with the package.

    Attributes:
        name: Its name.
        title: Its title or the beginning of its premise.
        about: Kind, language and number of scenes, in words.
    """

    name: str
    title: str
    about: str


@dataclass(frozen=True, slots=True)
class BookFile:
    """A book as a file.

    Attributes:
        data: Its bytes.
        media_type: Its type.
        name: Its file name.
    """

    data: bytes
    media_type: str
    name: str


def shipped_recipes() -> list[ShippedRecipe]:
    """Return the recipes that come with the package."""
    found = []
    for name, path in story_recipe_files().items():
        recipe = load_story_recipe(path)
        about = f"{recipe.kind.replace('_', '-')}, {recipe.language}, {recipe.num_scenes} scenes"
        found.append(ShippedRecipe(name, recipe.title or recipe.premise.splitlines()[0][:MAX_TITLE_CHARS], about))
    return found


def outline_text(scene: StoryScene) -> str:
    """Return the line of an outline, as a person edits it."""
    if scene.title and scene.summary and scene.title != scene.summary:
        return f"{scene.title}: {scene.summary}"
    return scene.summary or scene.title


class StoryActions:
    """Begins and continues stories, and makes their books.

    Args:
        page: The state of the page.
    """

    def __init__(self, page: PageState) -> None:
        self.page = page

    def shipped(self, name: str) -> StoryRecipe:
        """Return a recipe that comes with the package.

        Raises:
            InputError: If there is none of that name.
        """
        files = story_recipe_files()
        if name not in files:
            raise InputError(f"There is no story recipe {name[:80]!r}. Built-in recipes: {', '.join(files)}.")
        return load_story_recipe(files[name])

    def begin(self, user: User, recipe: StoryRecipe, options: dict[str, Any], *, approve: bool, generator: str) -> str:
        """Begin a story, and return its name.

        Args:
            user: The user.
            recipe: The recipe.
            options: Values by recipe key that override the recipe; None for those that do not.
            approve: Whether the outline waits for approval.
            generator: Name of the generator; empty for the default.

        Raises:
            InputError: If an option is not valid.
        """
        defaults = self.page.service.config.picture.model_dump(exclude_none=True)
        recipe = with_options(recipe, Path(), options, defaults)
        about = recipe.title or recipe.premise
        name = self.page.shelf(user).new_name(about)
        teller = self._teller(user, name, recipe, approve=approve, generator=generator)
        self._run(user, name, LiveStory(teller, about), lambda: teller.stream(recipe))
        return name

    async def resume(self, user: User, name: str, decision: OutlineDecision | None, *, budget: str = "") -> None:
        """Continue a story.

        Args:
            user: The user.
            name: Name of the story.
            decision: The decision that it waits for, if any.
            budget: Limits of the book; empty for those of its recipe.

        Raises:
            InputError: If it runs already, there is no such story, or the budget is not one.
        """
        await self.check_free(user, name)
        story = self.page.shelf(user).get(name).story
        teller = self._teller(user, name, story.recipe, generator=story.generator, budget=budget)
        self._run(user, name, LiveStory(teller), lambda: teller.stream_resume(decision))

    async def revise(self, user: User, name: str, revision: PageRevision) -> None:
        """Change a page of a story.

        Raises:
            InputError: If the story runs, or the change is not possible.
        """
        await self.check_free(user, name)
        story = self.page.shelf(user).get(name).story
        teller = self._teller(user, name, None, generator=story.generator)
        self._run(user, name, LiveStory(teller), lambda: teller.stream_revision(revision))

    async def check_free(self, user: User, name: str) -> None:
        """Refuse a second run of a story. The end of a run whose work is saved is waited for.

        Raises:
            InputError: If it runs.
        """
        if await self.page.stories.running_long((user.namespace, name)) is not None:
            raise InputError("This story is being worked on. Wait until it is done, or stop it.")

    def view(self, user: User, name: str) -> dict[str, Any]:
        """Return the variables of a story's templates.

        Raises:
            InputError: If there is no such story.
        """
        live = self.page.stories.get((user.namespace, name))
        shelf = self.page.shelf(user)
        has_record = (shelf.folder(name) / STORY_FILE).is_file()
        story: Story | None = shelf.get(name).story if has_record or live is None else None
        is_running = live is not None and not live.is_over
        return {
            "name": name,
            "story": story,
            "live": live if is_running else None,
            "error": live.error if live is not None and live.is_over else "",
            "messages": [part.data["message"] for part in live.parts if part.kind == "notice"] if live else [],
            "about": live.about if live is not None else "",
            "outline_text": outline_text,
        }

    def book(self, user: User, name: str, form: str) -> BookFile:
        """Return the book of a story; the story may be unfinished.

        Args:
            user: The user.
            name: Name of the story.
            form: `html`, `pdf` or `md`; Markdown comes as an archive with its pictures.

        Raises:
            InputError: If there is no such story or format.
            MgemError: If the file of a picture is damaged, or the typesetter fails.
        """
        story, store = self.page.shelf(user).get(name).story, self.page.store(user)
        book = make_book(story, store, scores=self.page.service.config.story.scores)
        if form == "html":
            return BookFile(render_html(book).encode(), "text/html; charset=utf-8", f"{name}.html")
        if form == "pdf":
            return BookFile(render_pdf(book)[0], "application/pdf", f"{name}.pdf")
        if form != "md":
            raise InputError(f"There is no book format {form[:20]!r}. Allowed: html, pdf, md.")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(f"{name}/book.md", ZIP_DATE), render_markdown(book))
            for picture in dict.fromkeys(scene.artifact_id for scene in story.scenes if scene.artifact_id):
                with suppress(MgemError):  # the book says that it is missing
                    place = zipfile.ZipInfo(f"{name}/{PICTURE_FOLDER}/{picture}.png", ZIP_DATE)
                    archive.writestr(place, store.path(picture).read_bytes())
        return BookFile(buffer.getvalue(), "application/zip", f"{name}.zip")

    def _teller(
        self,
        user: User,
        name: str,
        recipe: StoryRecipe | None,
        *,
        approve: bool = False,
        generator: str = "",
        budget: str = "",
    ) -> Storyteller:
        """Return the storyteller of a story; a complete recipe needs no reasoner.

        The limits are those of the user or else the recipe, at most those of the server.
        """
        service = self.page.service
        limits = Budget.parse(budget or (recipe.budget if recipe is not None else None) or Budget())
        known = generator if generator in service.generators.names else None
        return Storyteller(
            None if recipe is not None and has_everything(recipe) else service.reasoner,
            service.generators.get(known),
            self.page.store(user),
            folder=self.page.shelf(user).folder(name),
            approve_outline=approve,
            budget=Budgets(book=service.config.budgets.book.within(limits)),
            prices=service.config.prices,
            **service.story_options(lambda: service.reasoner),
        )

    def _run(self, user: User, name: str, live: LiveStory, start: Events) -> None:
        begun = live.noticing_begin(start, "Working on it")

        def events() -> AsyncGenerator[StoryEvent, None]:
            return self.page.service.jobs.stream(
                user, "story", begun, abandon=live.teller.cancel, title=live.about[:MAX_TITLE_CHARS]
            )

        self.page.stories.put((user.namespace, name), live)
        live.start(events)
