"""`/story` in `mgem chat`: tell a story from a recipe, show each page as it is finished, and write the book."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.cli.chat.command import Command
from mgem_agent.cli.display.ctrl_c import stopped_by_ctrl_c
from mgem_agent.cli.display.story import scored_line
from mgem_agent.cli.story_recipes import ENDINGS
from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mgem_agent.cli.chat.state import Chat, ChatUI
    from mgem_agent.tools.budget import Meter
    from mgem_agent.workflows import Story, StoryEvent, StoryRecipe, Storyteller

__all__ = ["COMMANDS", "story_folder"]

STOPPING = "stopping the story; finished pages are kept, and the same /story command continues it"
MAX_NAME_WORDS = 6
MAX_NAME_CHARS = 60  # a character may take four bytes in a file name
QUESTION = "Draw this story? [y]es or [n]o: "


def _story(chat: Chat, ui: ChatUI, rest: str) -> None:
    from mgem_agent.cli.factories import open_page_scoring, prepare_reasoner
    from mgem_agent.cli.story_recipes import find_recipe
    from mgem_agent.tools.budget import Cost
    from mgem_agent.workflows import Storyteller
    from mgem_agent.workflows.book import BookFolder
    from mgem_agent.workflows.recipe_options import has_everything, with_options
    from mgem_agent.workflows.story import STORY_FILE

    words = rest.strip("\"' ")
    if not words:
        raise InputError("The story is missing. Give a built-in recipe, a recipe file or a premise: /story the_dragon")
    recipe, place = find_recipe(words)
    recipe = with_options(recipe, place, {}, chat.settings.picture.model_dump(exclude_none=True))
    folder = story_folder(words)
    reasoner = None if has_everything(recipe) else chat.reasoner
    if reasoner is not None:
        prepare_reasoner(chat.settings, reasoner)
    teller = Storyteller(
        reasoner,
        chat.generator,
        chat.store,
        folder=folder,
        approve_outline=chat.settings.confirm,
        budget=chat.settings.budgets,
        prices=chat.settings.prices,
        meter=_session_meter(chat),
        **open_page_scoring(chat.settings, lambda: chat.reasoner),
    )
    BookFolder(folder, chat.store).check(("html",))  # before anything is drawn for it
    is_begun = (folder / STORY_FILE).is_file()
    if is_begun and not teller.story().recipe.tells_the_same_as(recipe):
        raise InputError(
            f"{str(folder)!r} already holds another story, or this one with other picture settings. Move that folder."
        )
    before = Cost.read(teller.story().cost) if is_begun else Cost()
    try:
        _tell(chat, ui, teller, None if is_begun else recipe)
    finally:
        if (folder / STORY_FILE).is_file():
            story = teller.story()
            spent = Cost.read(story.cost) - before
            chat.sessions.charge(chat.session, spent.record() if spent else {}, title=story.title)


def _session_meter(chat: Chat) -> Meter:
    """Return a meter with the budget of the session, of which a part may be spent."""
    from mgem_agent.tools.budget import Budgets, Cost, Meter
    from mgem_agent.tools.prices import Prices

    budgets = Budgets(session=chat.settings.budgets.session)
    before = {"session": Cost.read(chat.sessions.cost(chat.session))}
    return Meter(budgets, Prices(chat.settings.prices), spent=before)


def _tell(chat: Chat, ui: ChatUI, teller: Storyteller, recipe: StoryRecipe | None) -> None:
    """Tell the story of a recipe, or continue the story of the folder (None), and write its book."""
    is_begun = recipe is None
    is_done = is_begun and teller.story().is_complete
    if is_done and not (chat.settings.scores_pages and teller.story().has_unscored_pages):
        ui.display.tell("This story is already finished. Its book will be written again.")
        story: Story | None = teller.story()
    elif is_begun and teller.story().state == "waiting":
        story = _decided(teller, teller.story(), ui)
    else:
        story = _told(teller.stream_resume() if recipe is None else teller.stream(recipe), teller, ui)
        if story is not None and story.state == "waiting":
            story = _decided(teller, story, ui)
    if story is not None:
        _bind(story, chat, ui, teller.folder)


def story_folder(words: str) -> Path:
    """Return the folder of a story: next to its recipe file, or in the current folder, named after the story."""
    from mgem_agent.workflows.word_units import cut_text

    if words.lower().endswith(ENDINGS):
        return user_path(words).with_suffix("")
    name = "-".join(re.findall(r"\w+", words.lower())[:MAX_NAME_WORDS])
    return Path(cut_text(name, MAX_NAME_CHARS) or "story")


def _told(events: Iterator[StoryEvent], teller: Storyteller, ui: ChatUI) -> Story | None:
    """Show a story's events; return the story, or None if it was stopped."""
    story: Story | None = None

    def stop() -> bool:
        teller.cancel()
        return True

    try:
        with stopped_by_ctrl_c([(stop, STOPPING)], ui.display.hint_at):
            for event in events:
                if event.kind == "finished" or event.kind == "approval":
                    story = event.story
                else:
                    _show(event, ui)
    finally:
        ui.display.close()
    return story


def _show(event: StoryEvent, ui: ChatUI) -> None:
    """Show an event of a story in the display for turns."""
    from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn, TextPiece

    if event.kind == "outline":
        lines = [f"{scene.index}. {scene.summary or scene.title or scene.caption}" for scene in event.story.scenes]
        ui.display.show(TextPiece(f"# {event.story.title}\n\n" + "\n".join(lines) + "\n\n"))
    elif event.kind == "scene":
        scene = event.scene
        ui.display.show(
            TextPiece(f"## {scene.index}. {scene.title}".rstrip() + f"\n\n{scene.text or scene.caption}\n\n")
        )
    elif event.kind == "scored":
        ui.display.tell(scored_line(event))
    elif isinstance(event, (AgentNotice, DrawingProgress, PictureDrawn, DrawingFailed)):
        ui.display.show(event)


def _decided(teller: Storyteller, story: Story, ui: ChatUI) -> Story | None:
    """Ask whether to draw the outline, and continue."""
    from mgem_agent.workflows import OutlineReady

    _show(OutlineReady(story), ui)
    ui.display.close()
    answer = (ui.edit(QUESTION, "") or "").strip().lower()
    if answer not in ("y", "yes", "n", "no"):
        ui.display.tell("The outline still waits for approval. Run the same command to be asked again.")
        return None
    return _told(teller.stream_resume("approve" if answer[0] == "y" else "refuse"), teller, ui)


def _bind(story: Story, chat: Chat, ui: ChatUI, folder: Path) -> None:
    """Write the book and print its path."""
    from mgem_agent.workflows.book import BookFolder

    if story.state != "finished":
        ui.display.tell("The outline was refused, so nothing was drawn.")
        return
    book = BookFolder(folder, chat.store).write(story, ("html",), scores=chat.settings.story.scores)
    for notice in book.notices:
        ui.display.tell(notice)
    ui.display.tell(f"The book was written to {book.files[0].absolute()}")
    drawn = [scene.artifact_id for scene in story.scenes if scene.artifact_id]
    if drawn:
        ui.display.tell(f"Use its pictures here by their ids, as in /show {drawn[0]}")
    if story.failed_scenes:
        ui.display.tell(f"{len(story.failed_scenes)} picture(s) are missing. Run the same command to try them again.")


def _names(chat: Chat) -> Iterator[str]:
    from mgem_agent.recipes.stories import story_recipe_files

    yield from story_recipe_files()
    yield from sorted(path.name for path in Path().iterdir() if path.name.lower().endswith(ENDINGS[:2]))


COMMANDS = (
    Command(
        "story",
        "NAME | FILE | PREMISE",
        "Tell an illustrated story and write it as a book, from a built-in recipe, a recipe file or a premise.",
        _story,
        _names,
    ),
)
