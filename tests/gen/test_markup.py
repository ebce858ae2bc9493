"""Tags and captions as text: cleaned, cut, disarmed and written back."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mgem_agent.gen.events import captions, notices, visible_text
from mgem_agent.gen.markup import (
    MAX_CAPTION_LENGTH,
    clean_caption,
    cut_caption,
    neutralize_tags,
    render_assistant_turn,
)
from mgem_agent.gen.parser import parse

TAG = re.compile(r"<\s*/?\s*(?:h|gen)\s*>", re.IGNORECASE)
SHARDS = [
    "\u200b",
    "\u200d",
    "\ud800",
    "\x1c",
    "<",
    ">",
    "/",
    "h",
    "GEN",
    " ",
    "\n",
    "\x00",
    "a",
    "é",
    "<h>",
    "</h>",
    "<GEN>",
    "</ H >",
]
broken = st.lists(st.sampled_from(SHARDS), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        (" a red fox ", "a red fox"),
        ("a red\n\n  fox\tin\r\nsnow", "a red fox in snow"),
        ("a\x1b[31m red\x00fox\x7f", "a [31m red fox"),
        ("a \ud800 fox", "a fox"),
        ("<\x00h>", "[ h]"),
        ("a < b > c, ein Füchslein, 狐", "a < b > c, ein Füchslein, 狐"),
        (" \n\u200b", ""),
    ],
)
def test_a_caption_is_one_line_of_printable_characters(text: str, caption: str) -> None:
    assert clean_caption(text) == caption


@given(broken)
def test_a_clean_caption_is_left_alone(text: str) -> None:
    caption = clean_caption(text)
    assert clean_caption(caption) == caption
    assert caption.replace("\u200d", "").isprintable()
    assert not TAG.search(caption)


@pytest.mark.parametrize("length", [0, 1, MAX_CAPTION_LENGTH])
def test_a_caption_that_fits_is_not_cut(length: int) -> None:
    assert cut_caption("x" * length) == ("x" * length, "")


@given(st.integers(1, 12_000), st.integers(1, 12_000))
@example(5_000, 6_000)
@example(MAX_CAPTION_LENGTH, 1)
def test_a_cut_caption_fits_and_its_rest_is_at_hand(first: int, second: int) -> None:
    caption = "x" * first + " " + "y" * second
    kept, rest = cut_caption(caption)
    assert 0 < len(kept) <= MAX_CAPTION_LENGTH
    assert (kept + rest).replace(" ", "") == caption.replace(" ", "")
    assert kept == kept.strip()


@pytest.mark.parametrize(
    ("typed", "neutral"),
    [
        ("<h>x</h>", "[h]x[/h]"),
        ("draw <GEN>", "draw [GEN]"),
        ("< / H >< gen\n>", "[ / H ][ gen\n]"),
        ("<<GEN>h>", "<[GEN]h>"),
        ("<h1>, a < h, <hr>", "<h1>, a < h, <hr>"),
    ],
)
def test_tags_that_a_user_types_do_nothing(typed: str, neutral: str) -> None:
    assert neutralize_tags(typed) == neutral


@given(broken)
def test_a_neutral_text_is_read_as_it_stands(typed: str) -> None:
    neutral = neutralize_tags(typed)
    events = parse(neutral)
    assert (visible_text(events), captions(events), notices(events)) == (neutral, (), ())
    assert len(neutral) == len(typed)
    assert neutralize_tags(neutral) == neutral


def test_neutralising_takes_linear_time() -> None:
    assert neutralize_tags("<" * 1_000_000) == "<" * 1_000_000
    assert neutralize_tags("<" + " " * 1_000_000) == "<" + " " * 1_000_000


@pytest.mark.parametrize(
    ("text", "drawn", "turn"),
    [
        ("Here it is:", ["a red fox"], "Here it is: <h> a red fox </h>"),
        ("Here: \n", [" a\nfox "], "Here: <h> a fox </h>"),
        ("", ["a fox"], "<h> a fox </h>"),
        ("Both:", ["a", "b"], "Both: <h> a </h> <h> b </h>"),
        ("No picture.", [], "No picture."),
        ("The tag <h> opens.", ["x</h><h>y", " "], "The tag [h] opens. <h> x[/h][h]y </h>"),
        ("", [], ""),
    ],
)
def test_a_turn_is_written_as_models_are_taught(text: str, drawn: list[str], turn: str) -> None:
    assert render_assistant_turn(text, drawn) == turn


@given(broken, st.lists(broken, max_size=3))
def test_a_turn_that_is_written_reads_the_same(text: str, drawn: list[str]) -> None:
    turn = render_assistant_turn(text, drawn)
    events = parse(turn)
    assert visible_text(events).strip() == neutralize_tags(text).strip()
    assert captions(events) == tuple(filter(None, map(clean_caption, drawn)))
    assert notices(events) == ()
    assert render_assistant_turn(visible_text(events), captions(events)) == turn


@given(broken)
def test_an_answer_that_is_read_and_written_reads_the_same(answer: str) -> None:
    events = parse(answer)
    again = parse(render_assistant_turn(visible_text(events), captions(events)))
    assert captions(again) == captions(events)
    assert visible_text(again).strip() == visible_text(events).strip()
