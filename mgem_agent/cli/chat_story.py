"""`/story` in `mgem chat`: a recipe becomes an illustrated book, page by page before one's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.cli.chat_commands import Command
from mgem_agent.cli.ctrl_c import stopped_by_ctrl_c
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mgem_agent.cli.chat_state import Chat, Face
    from mgem_agent.workflows import Story, StoryEvent, Storyteller

__all__ = ["COMMANDS"]

STOPPING = "stopping the story; what is made is kept, and /story goes on with it"
QUESTION = "Draw this story? [y]es or [n]o: "


def _story(chat: Chat, face: Face, rest: str) -> None:
    from mgem_agent.workflows import Storyteller, load_story_recipe
    from mgem_agent.workflows.book import BookFolder
    from mgem_agent.workflows.story import STORY_FILE

    path = Path(rest.strip("\"'")).expanduser()
    if not rest:
        raise InputError("Which recipe? Example: /story dragon.yaml")
    recipe = load_story_recipe(path)
    folder = path.with_suffix("") if path.suffix else path.with_name(f"{path.name}-story")
    teller = Storyteller(
        chat.reasoner, chat.generator, chat.store, folder=folder, approve_outline=chat.settings.confirm
    )
    BookFolder(folder, chat.store).check(("html",))  # before anything is drawn for it
    is_begun = (folder / STORY_FILE).is_file()
    if is_begun and teller.story().recipe != recipe:
        raise InputError(f"In {str(folder)!r} there is the story of another recipe. Give this one another name.")
    if is_begun and teller.story().is_whole:
        face.display.tell("This story is told already; its book is made again.")
        story: Story | None = teller.story()
    elif is_begun and teller.story().state == "waiting":
        story = _decided(teller, teller.story(), face)
    else:
        story = _told(teller.stream_resume() if is_begun else teller.stream(recipe), teller, face)
        if story is not None and story.state == "waiting":
            story = _decided(teller, story, face)
    if story is not None:
        _bind(story, chat, face, folder)


def _told(events: Iterator[StoryEvent], teller: Storyteller, face: Face) -> Story | None:
    """Show a story as it is told; the story, or None where it was stopped."""
    story: Story | None = None

    def stop() -> bool:
        teller.cancel()
        return True

    try:
        with stopped_by_ctrl_c([(stop, STOPPING)], face.display.hint_at):
            for event in events:
                if event.kind == "finished" or event.kind == "approval":
                    story = event.story
                else:
                    _show(event, face)
    finally:
        face.display.close()
    return story


def _show(event: StoryEvent, face: Face) -> None:
    """Show an event of a story as those of a turn are shown."""
    from mgem_agent.agent_events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn, TextPiece

    if event.kind == "outline":
        lines = [f"{scene.index}. {scene.summary or scene.heading or scene.caption}" for scene in event.story.scenes]
        face.display.show(TextPiece(f"# {event.story.title}\n\n" + "\n".join(lines) + "\n\n"))
    elif event.kind == "scene":
        scene = event.scene
        face.display.show(
            TextPiece(f"## {scene.index}. {scene.heading}".rstrip() + f"\n\n{scene.text or scene.caption}\n\n")
        )
    elif isinstance(event, (AgentNotice, DrawingProgress, PictureDrawn, DrawingFailed)):
        face.display.show(event)


def _decided(teller: Storyteller, story: Story, face: Face) -> Story | None:
    """Ask whether an outline shall be drawn, and go on."""
    from mgem_agent.workflows import OutlineReady

    _show(OutlineReady(story), face)
    face.display.close()
    answer = (face.edit(QUESTION, "") or "").strip().lower()
    if answer not in ("y", "yes", "n", "no"):
        face.display.tell("The outline waits. The same command asks again.")
        return None
    return _told(teller.stream_resume("approve" if answer[0] == "y" else "refuse"), teller, face)


def _bind(story: Story, chat: Chat, face: Face, folder: Path) -> None:
    """Write the book, and say where it is."""
    from mgem_agent.workflows.book import BookFolder

    if story.state != "finished":
        face.display.tell("The outline was refused, so nothing is drawn.")
        return
    book = BookFolder(folder, chat.store).write(story, ("html",))
    for notice in book.notices:
        face.display.tell(notice)
    face.display.tell(f"The book is {book.files[0]}")
    if story.failed_scenes:
        face.display.tell(f"{len(story.failed_scenes)} picture(s) are missing; the same command tries them again.")


COMMANDS = (
    Command("story", "FILE", "Tell the story of a recipe, and make a book of it beside the file.", _story, "files"),
)
