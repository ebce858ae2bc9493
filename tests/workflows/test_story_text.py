"""Reading what small models write."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from mgem_agent.workflows.story_text import (
    first_sentence,
    read_cast,
    read_line,
    read_looks,
    read_outline,
    read_text,
    shorten,
    split_heading,
)


@pytest.mark.parametrize(
    "said",
    [
        "1. A fox wakes.\n2. A fox runs.",
        "Sure! Here is your plan:\n\n1) A fox wakes.\n2) A fox runs.\n3) It is never read.",
        "**Scene 1:** A fox wakes.\n**Scene 2:** A fox runs.",
        "## Step 1 - A fox wakes.\n## Step 2 - A fox runs.",
        "- A fox wakes.\n- A fox runs.",
        "Here are the scenes:\nA fox wakes.\nA fox runs.",
        "A fox wakes. A fox runs.",
        "1. A fox wakes.\n1. A fox wakes.\n2. A fox runs.\n2. A fox wakes",
        "<think>1. No no.\n</think>\n1. A fox wakes.\n2. A fox runs.",
    ],
)
def test_an_outline_in_any_form(said: str) -> None:
    assert read_outline(said, 2) == ["A fox wakes.", "A fox runs."]


def test_a_tale_instead_of_an_outline() -> None:
    said = (
        "The Fox and the Snow\nA fox wakes. It yawns. It is cold.\n\nThe fox runs. It finds a hole. It sleeps. And th"
    )
    assert read_outline(said, 3) == ["A fox wakes.", "It is cold.", "It finds a hole."]
    assert read_outline(said, 9)[-1] == "It sleeps."


def test_an_outline_of_nothing() -> None:
    assert read_outline("", 3) == read_outline("Sure!", 3) == read_outline("...\n\n---", 3) == []


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("The fox: It wakes up.", ("The fox", "It wakes up.")),
        ("The fox – it wakes", ("The fox", "it wakes")),
        ("A fox wakes up.", ("", "A fox wakes up.")),
        ("He said. Then: nothing", ("", "He said. Then: nothing")),
    ],
)
def test_headings(line: str, parts: tuple[str, str]) -> None:
    assert split_heading(line) == parts


def test_a_cast_in_any_form() -> None:
    said = (
        "Here are the characters:\n- **Pip**: a small grey mouse, green coat.\n2. Tom (the cat): orange fur\n"
        "Rosa: old\npip: somebody else entirely\nAnd so they all lived in a very big house: happy and well"
    )
    assert [(each.name, each.looks) for each in read_cast(said, 4)] == [
        ("Pip", "a small grey mouse, green coat"),
        ("Tom", "orange fur"),
    ]
    assert len(read_cast(said, 1)) == 1


@pytest.mark.parametrize(
    "said",
    ["A fox in snow.", '"A fox in snow."', "Caption: A fox in snow.", "Sure, here it is:\n> **A fox in snow.**\nMore."],
)
def test_a_line_in_any_form(said: str) -> None:
    assert read_line(said) == "A fox in snow."


def test_looks_can_stand_within_a_caption() -> None:
    assert read_looks("Looks: a grey mouse, with a coat.\n") == "a grey mouse, with a coat"


@pytest.mark.parametrize(
    "said",
    [
        "The fox woke. It ran.\n\nIt was gone.",
        "Scene 2: The fox\n\nThe fox woke. It ran.\n\nIt was gone.",
        "The fox.\nThe fox woke. It ran.\nIt was gone.\nIt was gone.",
        "Here is the text:\n\nThe fox woke. It ran.\n\nIt was gone.",
        "A new heading\n\nThe fox woke. It ran.\n\nIt was gone.",
    ],
)
def test_a_page_in_any_form(said: str) -> None:
    assert read_text(said, "The fox") == "The fox woke. It ran.\n\nIt was gone."


def test_a_page_that_was_cut_off_ends_with_a_sentence() -> None:
    assert read_text("The fox woke. “It ran.”\n\nIt was not just any", "") == "The fox woke. “It ran.”"
    assert read_text("In the heavens above,\nA battle rages on", "") == "In the heavens above,\n\nA battle rages on"


def test_a_page_of_nothing() -> None:
    assert read_text("Okay.", "The fox") == read_text("The fox", "The fox") == ""


def test_shortening() -> None:
    assert shorten("a fox, running", 9) == "a fox…"
    assert shorten("a fox", 9) == "a fox"
    assert first_sentence("A fox runs.\nIt is red.") == "A fox runs."


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.text())
def test_nothing_that_a_model_writes_breaks_it(said: str) -> None:
    for line in (*read_outline(said, 5), read_line(said), read_looks(said)):
        assert "\n" not in line and len(line) <= 600
    assert len(read_cast(said, 3)) <= 3
    assert isinstance(read_text(said, said), str)
