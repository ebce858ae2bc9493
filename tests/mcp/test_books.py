"""The shelf of books."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.mcp.books import BookRecord, Books
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.workflows import StoryRecipe, Storyteller
from mgem_agent.workflows.story_folder import hold_folder

RECIPE = StoryRecipe.model_validate(
    {
        "title": "The key",
        "scenes": [{"text": "A mouse finds a key.", "caption": "a mouse with a golden key"}],
        "cast": [{"name": "Mouse", "looks": "a grey mouse"}],
    }
)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "books")


def tell(books: Books, book_id: str, store: ArtifactStore, *, approve_outline: bool = False) -> None:
    folder = books.folder(book_id)
    Storyteller(None, FlatColourGenerator(), store, folder=folder, approve_outline=approve_outline).run(RECIPE)


def test_a_new_book_has_not_begun(books: Books) -> None:
    name = books.create(BookRecord(recipe=RECIPE, generator="flat"))
    book = books.get(name)
    assert (name[:8], book.title, book.story, book.state) == ("the-key-", "The key", None, "stopped")
    assert books.list() == []


def test_the_state_follows_from_the_story_and_the_approved_pages(books: Books, store: ArtifactStore) -> None:
    record = BookRecord(recipe=RECIPE, generator="flat", approve="pages")
    name = books.create(record)
    tell(books, name, store, approve_outline=True)
    assert books.get(name).state == "outline"
    Storyteller(None, FlatColourGenerator(), store, folder=books.folder(name)).resume("approve")
    assert (books.get(name).state, books.get(name).waiting_page) == ("page", 1)
    books.write(name, record.model_copy(update={"approved": (1,)}))
    assert (books.get(name).state, books.get(name).waiting_page) == ("finished", None)


def test_a_story_of_another_program_is_a_book(books: Books, store: ArtifactStore) -> None:
    tell(books, "a-story", store)
    book = books.get("a-story")
    assert (book.record.generator, book.record.approve, book.state) == ("flat", "none", "finished")
    assert [each.id for each in books.list()] == ["a-story"]


def test_a_book_that_is_being_told_elsewhere_is_working(books: Books) -> None:
    name = books.create(BookRecord(recipe=RECIPE, generator="flat"))
    with hold_folder(books.folder(name)):
        assert books.get(name).state == "working"
    assert books.get(name).state == "stopped"


def test_a_damaged_record_hides_no_other_book(books: Books, store: ArtifactStore) -> None:
    for name in ("one", "two"):
        tell(books, name, store)
    (books.folder("one") / "book.json").write_text("{}")
    assert [each.id for each in books.list()] == ["two"]
    with pytest.raises(InputError, match="The record of the book 'one' is damaged"):
        books.get("one")
