from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import InputError, ToolError
from mgem_agent.workflows.book import BookFolder, book_folder


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_form_and_the_pictures(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    story, folder = make_story(), BookFolder(tmp_path / "book", store)
    written = folder.write(story)
    assert [path.name for path in written.files] == ["book.html", "book.md", "book.pdf"] and written.notices == ()
    pictures = {f"pictures/{scene.artifact_id}.png" for scene in story.scenes}
    assert files_of(folder.folder) == {".book-files.json", "book.html", "book.md", "book.pdf", *pictures}
    first = story.scenes[0].artifact_id
    assert (folder.folder / f"pictures/{first}.png").read_bytes() == store.path(first).read_bytes()


def test_a_book_is_written_again(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    folder = BookFolder(tmp_path, store)
    folder.write(make_story(1, state="telling"), ["html", "md"])
    folder.write(make_story(3), ["html", "md"])
    assert "Part 3" in folder.path("html").read_text() and "not drawn yet" not in folder.path("md").read_text()


def test_a_file_of_somebody_elses_is_not_touched(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text("my diary")
    with pytest.raises(InputError, match=r"book\.md' is not from this book, or it was changed since"):
        BookFolder(tmp_path, store).write(make_story())
    assert files_of(tmp_path) - {name for name in files_of(tmp_path) if name.startswith("store")} == {"book.md"}
    assert (tmp_path / "book.md").read_text() == "my diary"
    BookFolder(tmp_path, store).write(make_story(), ["html"])


def test_what_a_person_has_edited_is_theirs(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    folder = BookFolder(tmp_path, store)
    folder.write(make_story(), ["md"])
    folder.path("md").write_text("edited")
    with pytest.raises(InputError, match="Move it away"):
        folder.check(["md"])


def test_a_picture_of_somebody_elses_is_not_touched(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    story = make_story()
    place = tmp_path / "pictures" / f"{story.scenes[0].artifact_id}.png"
    place.parent.mkdir()
    place.write_bytes(b"mine")
    with pytest.raises(InputError, match="is not from this book"):
        BookFolder(tmp_path, store).write(story, ["md"])
    assert place.read_bytes() == b"mine"


def test_a_kill_between_the_note_and_the_file(
    make_story: Any, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BookFolder(tmp_path, store)
    folder.write(make_story(1), ["html"])
    before = folder.path("html").read_bytes()
    really = book_folder.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".html":
            raise ToolError("The disk is full.")
        really(path, data)

    monkeypatch.setattr(book_folder, "write_atomically", full)
    with pytest.raises(ToolError, match="full"):
        folder.write(make_story(2), ["html"])
    assert folder.path("html").read_bytes() == before
    monkeypatch.undo()
    folder.write(make_story(2), ["html"])
    assert folder.path("html").read_bytes() != before


def test_a_damaged_record_makes_nothing_ours(make_story: Any, store: ArtifactStore, tmp_path: Path) -> None:
    folder = BookFolder(tmp_path, store)
    folder.write(make_story(), ["html"])
    for text in ("{", "[]"):
        (tmp_path / ".book-files.json").write_text(text)
        with pytest.raises(InputError, match="Move it away"):
            folder.check(["html"])
