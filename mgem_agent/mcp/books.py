"""The books of an MCP server: a shelf of stories, and for each how far a person has approved it.

The id of a book is the name of its folder. Everything that is needed to continue it is in there, so an id stays valid
when the server is started again. Stories that others have put on the shelf are books, too.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import InputError
from mgem_agent.redaction import without_secrets
from mgem_agent.tools.budget import Budget
from mgem_agent.user_files import read_user_file
from mgem_agent.workflows.story import STORY_FILE, Story, read_story
from mgem_agent.workflows.story_folder import hold_folder
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.story_shelf import StoryShelf

__all__ = ["Approval", "Book", "BookRecord", "BookState", "Books"]

Approval = Literal["none", "outline", "pages"]
"""What a person approves: nothing, the outline before anything is drawn, or the outline and then each page."""

BookState = Literal["working", "outline", "page", "stopped", "refused", "finished"]
"""`working`: it is being told; `outline` and `page`: a person has to approve; `stopped`: it can be continued;
`refused`: a person has refused the outline; `finished`: every page is drawn or has failed."""

RECORD = "book.json"
MAX_RECORD_BYTES = 4_000_000

_checking = threading.Lock()


class BookRecord(BaseModel):
    """What is known of a book besides its story.

    Attributes:
        format: Version of this record.
        recipe: The recipe.
        generator: Name of the generator.
        approve: What a person approves.
        approved: Numbers of the pages that a person has approved.
        problem: Why it has stopped; empty if it has not failed.
        budget: Limits of the book; None for those of its recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    recipe: StoryRecipe
    generator: str
    approve: Approval = "none"
    approved: tuple[int, ...] = ()
    problem: str = ""
    budget: str | None = None

    @property
    def limits(self) -> Budget:
        """The limits of the book, besides those of the server."""
        given = self.budget if self.budget is not None else self.recipe.budget
        return Budget() if given is None else Budget.parse(given)

    def waiting_page(self, story: Story | None) -> int | None:
        """Return the number of the page that a person has to approve next; None if there is none."""
        if self.approve != "pages" or story is None:
            return None
        drawn = (scene.index for scene in story.scenes if scene.status == "drawn")
        return next((index for index in drawn if index not in self.approved), None)


@dataclass(frozen=True, slots=True)
class Book:
    """A book, possibly unfinished.

    Attributes:
        id: Its id.
        folder: Its folder.
        record: What is known besides the story.
        story: The story; None if it has not begun.
        state: Its state.
    """

    id: str
    folder: Path
    record: BookRecord
    story: Story | None
    state: BookState

    @property
    def waiting_page(self) -> int | None:
        """Number of the page that a person has to approve next; None if there is none."""
        return self.record.waiting_page(self.story)

    @property
    def title(self) -> str:
        """Its title, or the beginning of its premise."""
        title = self.story.title if self.story is not None else ""
        return title or self.record.recipe.title or " ".join(self.record.recipe.premise.split())[:80]


class Books:
    """The books in a folder.

    Args:
        shelf: The folder, or a shelf. It is created with the first book.
    """

    def __init__(self, shelf: StoryShelf | str | os.PathLike[str]) -> None:
        self._shelf = shelf if isinstance(shelf, StoryShelf) else StoryShelf(Path(shelf))

    @property
    def root(self) -> Path:
        """Folder of the books."""
        return self._shelf.root

    def create(self, record: BookRecord) -> str:
        """Create the folder of a new book, and return its id.

        Raises:
            ToolError: If the disk is full or the folder is not writable.
        """
        book_id = self._shelf.new_name(record.recipe.title or record.recipe.premise)
        self.write(book_id, record)
        return book_id

    def folder(self, book_id: str) -> Path:
        """Return the folder of a book, which need not exist.

        Raises:
            InputError: If it cannot be the id of a book.
        """
        return self._shelf.folder(book_id)

    def write(self, book_id: str, record: BookRecord) -> None:
        """Write the record of a book, atomically; errors as for `create`."""
        folder = self.folder(book_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RECORD, (without_secrets(record.model_dump_json(indent=2)) + "\n").encode())

    def get(self, book_id: str) -> Book:
        """Return a book. A stopped book that another process is telling counts as `working`.

        Raises:
            InputError: If there is no such book, or its record is damaged.
        """
        folder = self.folder(book_id)
        story = read_story(folder) if (folder / STORY_FILE).is_file() else None
        record = _read_record(folder, story)
        state = _state(record, story)
        if state == "stopped" and _is_held(folder):
            state = "working"
        return Book(book_id, folder, record, story, state)

    def list(self) -> list[Book]:
        """Return all books that have begun, the most recently changed first; damaged ones are left out."""
        found: list[Book] = []
        for shelved in self._shelf.list():
            try:
                record = _read_record(shelved.folder, shelved.story)
            except InputError:
                continue  # one damaged book does not hide the others
            state = _state(record, shelved.story)
            found.append(Book(shelved.name, shelved.folder, record, shelved.story, state))
        return found

    def revisions(self) -> dict[str, object]:
        """Return for each book that has begun a value that differs if the book has changed; no record is read."""
        return {path.parent.name: (_changed(path), _changed(path.parent / RECORD)) for path in self._shelf.records()}


def _changed(path: Path) -> int:
    """Return when a file was changed; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read_record(folder: Path, story: Story | None) -> BookRecord:
    """The record of a book; for a story of another program, what follows from the story."""
    try:
        text = read_user_file(folder / RECORD, "The record", max_bytes=MAX_RECORD_BYTES)
        return BookRecord.model_validate_json(text)
    except FileNotFoundError:
        if story is None:
            raise InputError(f"There is no book {folder.name!r}. Start one: tell_story.") from None
        approve: Approval = "outline" if story.needs_approval else "none"
        return BookRecord(recipe=story.recipe, generator=story.generator, approve=approve)
    except ValidationError as error:
        raise InputError(f"The record of the book {folder.name!r} is damaged: {error.errors()[0]['msg']}.") from error


def _state(record: BookRecord, story: Story | None) -> BookState:
    if story is None:
        return "stopped"
    if story.state == "waiting":
        return "outline"
    if story.state == "refused":
        return "refused"
    if record.waiting_page(story) is not None:
        return "page"
    return "finished" if story.state == "finished" else "stopped"


def _is_held(folder: Path) -> bool:
    """Whether a process is telling the story. Two checks at once would each find the other."""
    try:
        with _checking, hold_folder(folder, wait_s=0):
            return False
    except InputError:
        return True
