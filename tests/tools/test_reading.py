"""Reading text: the order, the boxes and the errors without the library, and real text with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mgem_agent.errors import ImageError, InputError, MissingDependencyError, ToolError
from mgem_agent.tools import can_read_text, read_text, reading


@pytest.fixture
def page() -> Image.Image:
    """A heading, and a row of two words."""
    picture = Image.new("RGB", (180, 140), "white")
    pen = ImageDraw.Draw(picture)
    for place, words in (((10, 20), "Hello world 42"), ((110, 88), "right"), ((10, 90), "left")):
        pen.text(place, words, fill="black", font=ImageFont.load_default(20))
    return picture


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put something in the place of the library: what it finds, or an error."""

    def put(found: Any, seen: list[Any] | None = None) -> None:
        def reader(pixels: Any) -> Any:
            if seen is not None:
                seen.append(pixels)
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=lambda params: reader))
        monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())

    reading._reader.cache_clear()  # pyright: ignore[reportPrivateUsage]
    yield put
    reading._reader.cache_clear()  # pyright: ignore[reportPrivateUsage]


def found(*lines: tuple[str, float, tuple[float, float, float, float]]) -> SimpleNamespace:
    boxes = [[(left, top), (right, top), (right, bottom), (left, bottom)] for *_, (left, top, right, bottom) in lines]
    return SimpleNamespace(
        boxes=np.array(boxes, np.float32), txts=[text for text, *_ in lines], scores=[score for _, score, _ in lines]
    )


@pytest.mark.skipif(not can_read_text(), reason="needs the extra 'ocr'")
def test_drawn_text_is_read_where_it_stands(page: Image.Image) -> None:
    read = read_text(page)
    assert [line.text for line in read.lines] == ["Hello world 42", "left", "right"]
    assert read.text == "Hello world 42\nleft right"
    assert (read.width, read.height) == (180, 140)
    assert all(line.confidence > 0.9 for line in read.lines)
    rows, columns = np.nonzero(np.asarray(page.convert("L"))[80:, 100:] < 128)  # the word at the right
    left, top, right, bottom = read.lines[2].box
    assert np.allclose((left, right), (columns.min() + 100, columns.max() + 100), atol=6)
    assert np.allclose((top, bottom), (rows.min() + 80, rows.max() + 80), atol=6)


@pytest.mark.skipif(not can_read_text(), reason="needs the extra 'ocr'")
def test_a_picture_without_text_has_no_lines() -> None:
    read = read_text(Image.new("RGB", (64, 64), "white"))
    assert (read.lines, read.text, (read.width, read.height)) == ((), "", (64, 64))


def test_rows_are_read_from_top_to_bottom_and_each_from_left_to_right(pretend: Any) -> None:
    pretend(
        found(
            ("d", 1.0, (10, 60, 50, 80)),
            ("b", 1.0, (60, 8, 90, 30)),
            ("c", 1.0, (100, 14, 130, 34)),
            ("a", 1.0, (10, 10, 50, 30)),
        )
    )
    read = read_text(Image.new("RGB", (200, 100)))
    assert "".join(line.text for line in read.lines) == "abcd"
    assert read.text == "a b c\nd"


def test_a_box_is_whole_pixels_within_the_picture(pretend: Any) -> None:
    pretend(found(("edge", 0.75, (-3.0, 1.5, 41.2, 19.1))))
    [line] = read_text(Image.new("RGB", (40, 20))).lines
    assert (line.box, line.confidence) == ((0, 1, 40, 20), 0.75)


def test_unsure_and_blank_lines_are_left_out(pretend: Any) -> None:
    pretend(found(("sure", 0.9, (0, 0, 9, 9)), ("unsure", 0.4, (0, 20, 9, 29)), (" ", 1.0, (0, 40, 9, 49))))
    picture = Image.new("RGB", (60, 60))
    assert read_text(picture).text == "sure"
    assert read_text(picture, min_confidence=0.1).text == "sure\nunsure"


def test_the_library_gets_blue_green_red(pretend: Any) -> None:
    seen: list[Any] = []
    pretend(SimpleNamespace(boxes=None, txts=None, scores=None), seen)
    read_text(Image.new("RGB", (2, 1), (1, 2, 3)))
    assert seen[0].tolist() == [[[3, 2, 1], [3, 2, 1]]]


def test_a_failing_library_is_a_failing_tool(pretend: Any) -> None:
    pretend(RuntimeError("no kernel"))
    with pytest.raises(ToolError, match=r"picture \(2×1 pixels\) could not be read \(RuntimeError: no kernel\)"):
        read_text(Image.new("RGB", (2, 1)))


def test_a_missing_library_is_named_with_the_command_that_brings_it(
    pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    wanted = r"^Reading text needs the package 'rapidocr'\. Run: pip install 'mgem-agent\[ocr\]'$"
    with pytest.raises(MissingDependencyError, match=wanted):
        read_text(Image.new("RGB", (2, 1)))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match=r"^min_confidence is 2\. Allowed: from 0 to 1\.$"):
        read_text(Image.new("RGB", (2, 1)), min_confidence=2)
    with pytest.raises(ImageError, match=r"There is no file 'none\.png'"):
        read_text("none.png")


def white(width: int, height: int, *words: tuple[int, int, str]) -> Image.Image:
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    for left, top, text in words:
        pen.text((left, top), text, fill="black", font=ImageFont.load_default(20))
    return picture


@pytest.mark.skipif(not can_read_text(), reason="needs the extra 'ocr'")
def test_a_long_picture_is_read_in_tiles_and_no_line_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TILE_PX", 200)
    monkeypatch.setattr(reading, "OVERLAP_PX", 60)
    words = ["first", "second", "third"]
    read = read_text(white(120, 300, *((10, 20 + 115 * place, word) for place, word in enumerate(words))))
    assert read.text.splitlines() == words
    assert (read.width, read.height, read.notices) == (120, 300, ())
    assert [abs(line.box[1] - 20 - 115 * place) < 12 for place, line in enumerate(read.lines)] == [True] * 3


def test_tiles_cover_every_picture_and_overlap(monkeypatch: pytest.MonkeyPatch, pretend: Any) -> None:
    seen: list[Any] = []
    pretend(SimpleNamespace(boxes=None, txts=None, scores=None), seen)
    for size in ((2000, 2000), (2001, 40), (40, 9000), (2500, 2100)):
        seen.clear()
        tiles = reading._tiles(*size)  # pyright: ignore[reportPrivateUsage]
        covered = np.zeros(size, bool)
        for left, top, right, bottom in tiles:
            covered[left:right, top:bottom] = True
        assert covered.all() and (len(tiles) == 1) == (max(size) <= 2000)
        read_text(Image.new("RGB", size))
        assert len(seen) == len(tiles)
        assert all(max(pixels.shape[:2]) <= 2000 and min(pixels.shape[:2]) >= 250 for pixels in seen if 40 in size)


def test_a_line_in_two_tiles_is_kept_where_more_of_it_is(monkeypatch: pytest.MonkeyPatch, pretend: Any) -> None:
    monkeypatch.setattr(reading, "TILE_PX", 100)
    monkeypatch.setattr(reading, "OVERLAP_PX", 40)
    answers = iter([found(("hello wor", 0.9, (50, 10, 100, 30))), found(("hello world", 0.9, (0, 10, 60, 30)))])
    library = SimpleNamespace(RapidOCR=lambda params: lambda pixels: next(answers))
    pretend(None)
    monkeypatch.setitem(sys.modules, "rapidocr", library)
    read = read_text(Image.new("RGB", (150, 50)))
    assert [(line.text, line.box) for line in read.lines] == [("hello world", (50, 10, 110, 30))]


def test_what_was_not_read_is_told(monkeypatch: pytest.MonkeyPatch, pretend: Any) -> None:
    pretend(SimpleNamespace(boxes=None, txts=None, scores=None))
    monkeypatch.setattr(reading, "MAX_TILES", 2)
    expected = (
        "The picture of 40×9000 pixels was not read to its end: 2 of its 5 parts of 2000 pixels a side were read, in "
        "reading order. Cut it up to read the rest."
    )
    assert read_text(Image.new("RGB", (40, 9000))).notices == (expected,)
