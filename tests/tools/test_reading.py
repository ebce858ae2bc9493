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
