from __future__ import annotations

import io

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from rich.segment import Segment

from mgem_agent.cli.display.markdown import MarkdownStream, split_settled

LISTING = "```python\n" + "\n".join(f"line_{number} = {number}" for number in range(90)) + "\n```\n"
LONG = (
    "# A heading\n\nA paragraph of *some* words.\nIts second line.\n\n1. one\n2. two\n\n   more of two\n3. three\n\n"
    f"{LISTING}\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\nThe end"
)


def console(width: int = 40) -> Console:
    return Console(file=io.StringIO(), width=width, height=20, force_terminal=True, color_system=None)


def text(rows: list[list[Segment]]) -> list[str]:
    return ["".join(segment.text for segment in row) for row in rows]


def streamed(markdown: str, size: int, on: Console) -> list[str]:
    stream, rows = MarkdownStream(on), []
    for start in range(0, len(markdown), size):
        rows += stream.feed(markdown[start : start + size])
    return text(rows + stream.finish())


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_however_it_comes_the_same_lines_are_shown(size: int) -> None:
    rows = streamed(LONG, size, console())
    assert rows == streamed(LONG, 7, console())
    assert [row.strip() for row in rows if "line_" in row] == [f"line_{number} = {number}" for number in range(90)]
    assert rows[-1] == "The end"
    assert " 2 two" in rows and "   more of two" in rows and " 3 three" in rows
    assert sum(row == "" for row in rows) == sum(not row.strip() for row in rows), "no line ends in blanks"


def test_lines_are_settled_once_and_the_window_stays_small() -> None:
    stream, settled = MarkdownStream(console()), []
    for start in range(0, len(LONG), 5):
        settled += stream.feed(LONG[start : start + 5])
        assert len(stream.window()) <= 12
    assert len(settled) > 90
    assert not stream.is_empty
    stream.finish()
    assert stream.is_empty
    assert stream.window() == []


def test_a_width_that_changes_within_a_block_loses_no_line() -> None:
    on = console(60)
    stream = MarkdownStream(on)
    rows = stream.feed("```\n" + "\n".join(map(str, range(30))) + "\n")
    on.width = 20
    rows += stream.feed("\n".join(map(str, range(30, 50))) + "\n```\n\nAfter it")
    rows += stream.finish()
    assert [row.strip() for row in text(rows) if row.strip()] == [*map(str, range(50)), "After it"]


@pytest.mark.parametrize(
    ("markdown", "settled"),
    [
        ("One.\n\nTwo", []),
        ("One.\n\nTwo\n", ["One.\n\n"]),
        ("1. one\n\n2", []),  # may become "2. two", an item of the same list
        ("a | b\n", []),
        ("One\u2028still one\x0b.\n\nTwo\n\nThree\n", ["One\u2028still one\x0b.\n\n", "Two\n\n"]),
    ],
)
def test_a_block_is_settled_when_nothing_can_change_it(markdown: str, settled: list[str]) -> None:
    blocks, rest = split_settled(markdown, MarkdownIt())
    assert blocks == settled
    assert "".join(blocks) + rest == markdown


def test_a_model_does_not_steer_the_terminal() -> None:
    assert "\x1b" not in "".join(streamed("Hello\x1b]0;title\x07 you\n", 4, console()))
