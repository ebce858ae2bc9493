from __future__ import annotations

import contextlib
import re
import zlib
from typing import Any

import pytest

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.workflows.book import make_book, render_pdf


def test_a_book_that_can_be_read_aloud(make_story: Any, store: ArtifactStore) -> None:
    book = make_book(make_story(2), store)
    data, notices = render_pdf(book)
    assert data.startswith(b"%PDF-") and notices == ()
    assert b"/StructTreeRoot" in data and data.count(b"/Type/Page/") + data.count(b"/Type /Page\n") >= 5
    assert render_pdf(book)[0] == data, "the same book gives the same file"


@pytest.mark.parametrize("size", [32, 512])
@pytest.mark.parametrize(
    "fields", [{"language": "he", "title": "השועל"}, {"language": "de"}, {"scenes": ()}, {"state": "telling"}]
)
def test_every_kind_of_book_can_be_set(make_story: Any, store: ArtifactStore, size: int, fields: Any) -> None:
    data, notices = render_pdf(make_book(make_story(1, size=size, **fields), store))
    assert data.startswith(b"%PDF-") and notices == ()


def test_what_is_written_is_no_command(make_story: Any, store: ArtifactStore) -> None:
    evil = '#panic("x") $1/0$ *b* @nobody <label> \\ "quoted" #read("/etc/passwd")'
    data, notices = render_pdf(make_book(make_story(1, title=evil, scene={"text": evil, "caption": evil}), store))
    assert data.startswith(b"%PDF-") and notices == ()


def test_letters_that_no_font_has_are_named(make_story: Any, store: ArtifactStore) -> None:
    data, notices = render_pdf(make_book(make_story(scene={"text": "A fox \U00016a40\U00016a41."}), store))
    assert data.startswith(b"%PDF-")
    assert len(notices) == 1 and notices[0].startswith("No font has ") and "\U00016a40" in notices[0]


def test_a_picture_that_cannot_be_read(make_story: Any, store: ArtifactStore) -> None:
    book = make_book(make_story(), store)
    store.path(book.pages[0].picture.id if book.pages[0].picture else "").unlink()
    with pytest.raises(InputError, match="There is no file"):
        render_pdf(book)


def widths_of_pictures(data: bytes) -> list[float]:
    """Widths that pictures have on their pages, the cover first, in millimetres."""
    streams = (zlib.decompressobj() for _ in iter(int, 1))
    found: list[float] = []
    for stream, match in zip(streams, re.finditer(rb"stream\r?\n(.*?)endstream", data, re.DOTALL), strict=False):
        with contextlib.suppress(zlib.error):
            placed = re.findall(rb"q ([\d.]+) 0 0 [\d.]+ [\d.]+ [\d.]+ cm/\w+ Do", stream.decompress(match[1]))
            found += [float(width) / 72 * 25.4 for width in placed]
    return found


@pytest.mark.parametrize("size", [32, 512])
def test_pictures_are_as_wide_as_the_text_where_there_is_room(make_story: Any, store: ArtifactStore, size: int) -> None:
    data, _ = render_pdf(make_book(make_story(size=size), store))
    cover, *pages = widths_of_pictures(data)
    assert cover >= 96 and pages == [pytest.approx(112, abs=0.1)] * 3
    data, _ = render_pdf(make_book(make_story(size=size, scene={"text": "The fox walks on and on. " * 40}), store))
    assert all(61.9 < width < 112 for width in widths_of_pictures(data)[1:])
    data, _ = render_pdf(make_book(make_story(size=size, scene={"text": "The fox walks on and on. " * 400}), store))
    assert widths_of_pictures(data)[1:] == [pytest.approx(62, abs=0.1)] * 3
