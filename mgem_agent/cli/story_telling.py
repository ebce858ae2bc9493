"""One run of `mgem story`, from the recipe to the finished book."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgem_agent.cli.display.ctrl_c import INTERRUPTED_STATUS
from mgem_agent.cli.display.story import StoryDisplay, print_outline
from mgem_agent.cli.factories import (
    open_generator,
    open_page_scoring,
    open_reasoner,
    open_store,
    prepare_reasoner,
)
from mgem_agent.cli.printing import ask, echo, echo_json
from mgem_agent.cli.story_recipes import find_recipe
from mgem_agent.errors import InputError, ToolError
from mgem_agent.user_files import user_path
from mgem_agent.workflows.recipe_options import has_everything, with_options

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mgem_agent.settings import Settings
    from mgem_agent.workflows import OutlineDecision, Story, StoryEvent, StoryRecipe, Storyteller
    from mgem_agent.workflows.book import BookFormat

__all__ = ["StoryTelling"]


def is_interactive() -> bool:
    """Whether standard input is a terminal, so that the user can be asked."""
    return sys.stdin.isatty()


class StoryTelling:
    """One run of `mgem story`.

    Args:
        settings: The settings.
        folder: Folder of the book.
        forms: Formats of the book.
        approve: Whether the user approves the outline.
        yes: Whether a waiting outline is approved without asking.
        as_json: Whether the result is printed as JSON.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        forms: tuple[BookFormat, ...],
        *,
        approve: bool,
        yes: bool,
        as_json: bool,
    ) -> None:
        from mgem_agent.workflows.book import BookFolder

        self._settings = settings
        self._folder = user_path(folder)
        self._forms = forms
        self._approve = approve
        self._yes = yes
        self._as_json = as_json
        self._store = open_store(settings)
        self._book = BookFolder(self._folder, self._store)
        self._display = StoryDisplay(quiet=as_json)

    def tell(self, words: str, options: dict[str, Any]) -> None:
        """Tell a story, or continue the one in the folder if it is the same story.

        Raises:
            InputError: If the folder holds another story, or the recipe is not valid.
            ToolError: If pictures failed; the book is written without them.
        """
        from mgem_agent.workflows.story import STORY_FILE, read_story

        recipe, place = find_recipe(words)
        recipe = with_options(recipe, place, options, self._defaults())
        self._book.check(self._forms)
        if not (self._folder / STORY_FILE).exists():
            teller = self._teller(recipe)
            self._run(lambda: teller.stream(recipe))
            return
        story = read_story(self._folder)
        if not story.recipe.tells_the_same_as(recipe):
            raise InputError(
                f"{str(self._folder)!r} already holds another story, {story.title or story.recipe.premise[:60]!r}, or "
                f"the same one with other options. Choose another --out folder, or continue that story: --resume"
            )
        self._resume(story)

    def resume(self, words: str | None, options: dict[str, Any]) -> None:
        """Continue the story in the folder.

        Raises:
            InputError: If there is no story, or options are given that apply only to a new one.
            ToolError: As for `tell`.
        """
        from mgem_agent.workflows.story import read_story

        if words is not None:
            self.tell(words, options)
            return
        given = [f"--{name}" for name, value in options.items() if value is not None]
        if given:
            raise InputError(
                f"{given[0]} applies to a new story, but --resume continues the old one. Leave out one of them."
            )
        story = read_story(self._folder)
        self._book.check(self._forms)
        self._resume(story)

    def _defaults(self) -> dict[str, Any]:
        """The picture settings, used where the recipe sets nothing."""
        return self._settings.picture.model_dump(exclude_none=True)

    def _teller(self, recipe: StoryRecipe) -> Storyteller:
        from mgem_agent.workflows import Storyteller

        generator = open_generator(self._settings)
        reasoner = None if has_everything(recipe) else open_reasoner(self._settings)
        if reasoner is not None:
            prepare_reasoner(self._settings, reasoner)
        return Storyteller(
            reasoner,
            generator,
            self._store,
            folder=self._folder,
            approve_outline=self._approve,
            budget=self._settings.budgets,
            prices=self._settings.prices,
            **open_page_scoring(self._settings, lambda: self._judge(reasoner)),
        )

    def _judge(self, reasoner: BaseChatModel | None) -> BaseChatModel:
        """Return the model that scores pages; a complete recipe needs it only for them."""
        if reasoner is not None:
            return reasoner
        judge = open_reasoner(self._settings)
        prepare_reasoner(self._settings, judge)
        return judge

    def _resume(self, story: Story) -> None:
        """Continue a story, after asking for any decision that it waits for."""
        if story.is_complete and not (self._settings.scores_pages and story.has_unscored_pages):
            self._finish(story)
            return
        decision = None
        if story.state == "waiting":
            decision = self._decide(story)
            if decision is None:
                self._report(story, ())
                return
        teller = self._teller(story.recipe)
        self._run(lambda: teller.stream_resume(decision))

    def _run(self, begin: Callable[[], Generator[StoryEvent, None, None]]) -> None:
        """Show the events, and write the book in any case, even after an error or Ctrl-C."""
        from mgem_agent.workflows.story import read_story

        last: StoryEvent | None = None
        try:
            with self._display, closing(begin()) as events:
                last = self._show_all(events)
        except KeyboardInterrupt:
            self._write_what_is_there()
            self._display.console.print("Stopped. Run the same command again to continue.")
            raise typer.Exit(INTERRUPTED_STATUS) from None
        except ToolError:
            self._write_what_is_there()
            raise
        story = read_story(self._folder)
        if last is not None and last.kind == "approval":
            self._resume(story)
            return
        self._finish(story)

    def _show_all(self, events: Iterator[StoryEvent]) -> StoryEvent | None:
        event: StoryEvent | None = None
        for event in events:
            self._display.show(event)
        return event

    def _write_what_is_there(self) -> None:
        """Write the book of an interrupted story, if it has any finished page."""
        from mgem_agent.workflows.story import STORY_FILE, read_story

        if (self._folder / STORY_FILE).exists():
            story = read_story(self._folder)
            if any(scene.text or scene.artifact_id for scene in story.scenes):
                self._book.write(story, self._forms)

    def _finish(self, story: Story) -> None:
        from mgem_agent.workflows.story import what_failed

        if story.state == "refused":
            self._display.console.print("The outline was refused. Nothing was drawn.")
            self._report(story, ())
            return
        written = self._book.write(story, self._forms, scores=self._settings.story.scores)
        for notice in written.notices:
            self._display.console.print(f"Notice: {notice}", markup=False)
        self._report(story, written.files)
        failure = what_failed(story)
        if failure is not None:
            raise failure

    def _report(self, story: Story, files: tuple[Path, ...]) -> None:
        """Print where the book is, on stdout."""
        if self._as_json:
            data = {
                "title": story.title,
                "state": story.state,
                "folder": str(self._folder),
                "files": [str(path) for path in files],
                "scenes": [
                    {"index": scene.index, "title": scene.title, "status": scene.status}
                    | {"artifact_id": scene.artifact_id, "message": scene.message}
                    | {"score": scene.score.score if scene.score is not None else None}
                    for scene in story.scenes
                ],
                "notices": story.notices,
            }
            echo_json(data)
        for path in () if self._as_json else files:
            echo(path)

    def _decide(self, story: Story) -> OutlineDecision | str | None:
        """Ask the user for a decision; None without a terminal."""
        if self._yes:
            return "approve"
        if not is_interactive():
            print_outline(story, self._display.console)
            self._display.console.print(
                f"The outline waits for approval. Approve it: mgem story --resume --yes --out {self._folder}",
                markup=False,
            )
            return None
        print_outline(story, self._display.console)
        answer = ""
        while answer not in ("a", "e", "r"):
            answer = ask("(a)pprove, (e)dit or (r)efuse", "a").strip().lower()[:1]
        if answer == "e":
            return self._edited(story)
        return "approve" if answer == "a" else "refuse"

    def _edited(self, story: Story) -> OutlineDecision:
        """Let the user edit the title and each line; an empty answer keeps the old text."""
        from mgem_agent.workflows import OutlineDecision

        title = ask("Title", story.title)
        lines = []
        for scene in story.scenes:
            old = f"{scene.title}: {scene.summary}" if scene.title and scene.summary else scene.summary
            lines.append(ask(f"{scene.index}.", old or scene.title))
        return OutlineDecision(title=title, outline=tuple(lines))
