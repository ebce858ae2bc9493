"""The folder of a book: `book.html`, `book.md`, `book.pdf`, `pictures/` and the story's record.

A file that another program wrote, or that was edited since, is never overwritten. A ledger in the folder has the hashes
of the files that this program wrote; it is written before the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.workflows.book.book import make_book
from mgem_agent.workflows.book.html import render_html
from mgem_agent.workflows.book.markdown import PICTURE_FOLDER, render_markdown
from mgem_agent.workflows.book.pdf import render_pdf
from mgem_agent.workflows.story import Story

__all__ = ["BookFolder", "BookFormat", "WrittenBook"]

BookFormat = Literal["html", "md", "pdf"]
"""Formats of a book."""

STEM = "book"
LEDGER = ".book-files.json"


@dataclass(frozen=True, slots=True)
class WrittenBook:
    """The files of a book.

    Attributes:
        files: The book in each format.
        notices: Sentences about what could not be typeset properly.
    """

    files: tuple[Path, ...]
    notices: tuple[str, ...]


class BookFolder:
    """The folder of a book.

    Args:
        folder: The folder; created if missing.
        store: The store of the pictures.

    Examples:
        >>> BookFolder("book", ArtifactStore("store")).path("html").name
        'book.html'
    """

    def __init__(self, folder: str | Path, store: ArtifactStore) -> None:
        self.folder = Path(folder)
        self._store = store

    def path(self, form: BookFormat) -> Path:
        """Return the file of a format."""
        return self.folder / f"{STEM}.{form}"

    def check(self, forms: Iterable[BookFormat]) -> None:
        """Refuse a folder in which another file would be overwritten, before a story is started in it.

        Raises:
            InputError: If there is such a file; nothing is changed.
        """
        ours = self._read_ledger()
        for form in forms:
            _refuse_foreign(self.path(form), ours.get(self.path(form).name, []))

    def write(
        self, story: Story, forms: Iterable[BookFormat] = get_args(BookFormat), *, scores: bool = False
    ) -> WrittenBook:
        """Write a story as a book; the story may be unfinished.

        Args:
            story: The story.
            forms: The formats to write; files of other formats are kept.
            scores: Whether the last page has the scores of the pages.

        Raises:
            InputError: If another file would be overwritten; nothing is changed.
            ImageError: If the file of a picture is damaged.
            ToolError: If the disk is full or the folder is not writable; each file is then the old or the new one.
        """
        forms = tuple(dict.fromkeys(forms))
        self.check(forms)
        book = make_book(story, self._store, scores=scores)
        files: list[Path] = []
        notices: tuple[str, ...] = ()
        for form in forms:
            if form == "html":
                data = render_html(book).encode()
            elif form == "md":
                self._write_pictures(story)
                data = render_markdown(book).encode()
            else:
                data, notices = render_pdf(book)
            self._write(self.path(form), data)
            files.append(self.path(form))
        return WrittenBook(tuple(files), notices)

    def _write_pictures(self, story: Story) -> None:
        """Copy the pictures and their parents, under their names in the store."""
        named = [*story.given_ids, *(scene.artifact_id for scene in story.scenes)]
        for name in dict.fromkeys(filter(None, named)):
            try:
                source = self._store.path(name)
            except InputError:
                continue  # the book marks the picture as missing
            place = self.folder / PICTURE_FOLDER / source.name
            data = source.read_bytes()
            if place.is_file() and place.read_bytes() == data:
                continue
            _refuse_foreign(place, [])
            write_atomically(place, data)

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file of this program, after adding its hash to the ledger."""
        new = hashlib.sha256(data).hexdigest()
        old = _hash(path)
        # Both hashes until the new file is written: if the program is killed in between, one of them is right.
        self._note(path.name, [new] if old in (None, new) else [old, new])
        write_atomically(path, data)

    def _note(self, name: str, hashes: list[str]) -> None:
        ours = self._read_ledger() | {name: hashes}
        write_atomically(self.folder / LEDGER, (json.dumps(ours, indent=2) + "\n").encode())

    def _read_ledger(self) -> dict[str, list[str]]:
        """Return the hashes by file name; empty if the ledger is missing or damaged, so that no file counts as ours."""
        try:
            found = json.loads((self.folder / LEDGER).read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: [str(each) for each in hashes] for name, hashes in found.items() if isinstance(hashes, list)}


def _hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}. Use another folder.") from error


def _refuse_foreign(path: Path, ours: list[str]) -> None:
    found = _hash(path)
    if found is not None and found not in ours:
        raise InputError(
            f"The file {str(path)!r} is not from this book, or it was changed since. Move it away, or write the book "
            f"to another folder."
        )
