"""The parser: against a slow second implementation, against every way to cut a text, and against broken input."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import SupportsIndex, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mgem_agent.gen.events import (
    CaptionClosed,
    CaptionOpened,
    CaptionPiece,
    GenEvent,
    GenNotice,
    GenNoticeReason,
    TextPiece,
    captions,
    merged,
    notices,
    readable_text,
    visible_text,
)
from mgem_agent.gen.markup import MAX_CAPTION_LENGTH, clean_caption, render_assistant_turn
from mgem_agent.gen.parser import GenProtocolParser, parse

TAG = re.compile(r"<\s*/?\s*(?:h|gen)\s*>", re.IGNORECASE)
TAG_AT_END = re.compile(r"<\s*(/?)\s*(h|gen)\s*>\Z", re.IGNORECASE)
BEGINNING = re.compile(r"<\s*(/\s*)?(h\s*|g|ge|gen\s*)?", re.IGNORECASE)

SHARDS = [
    "<",
    ">",
    "/",
    "h",
    "H",
    "g",
    "e",
    "n",
    " ",
    "\n",
    "a",
    "é",
    "<h>",
    "</h>",
    "<GEN>",
    "</ H >",
    "< gen",
    "a fox",
]
ODD = ["\x00", "\x1c", "\xa0", "\u0130", "\u200b", "\u212a", "\ud800", "\U0001f98a"]
ENDS = ("abandoned_caption", "empty_caption", "unclosed_caption")
broken = st.lists(st.sampled_from(SHARDS + ODD), max_size=24).map("".join)
words = st.text(st.sampled_from("abc xyz.\n<h1>é"), max_size=12).filter(lambda text: not TAG.search(text))


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def feed(pieces: list[str], *, close_at_end: bool = False) -> list[GenEvent]:
    parser = GenProtocolParser(close_at_end=close_at_end)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [*events, *parser.close()]


def slow(text: str) -> tuple[str, list[str], list[tuple[str, str]]]:
    """Read an answer character by character: its text, its closed captions, and its notices, all as they stand."""
    around: list[tuple[str, int]] = []
    inside: list[tuple[str, int]] | None = None
    closed: list[str] = []
    noticed: list[tuple[str, str]] = []

    def words_of(characters: list[tuple[str, int]]) -> str:
        return "".join(character for character, _ in characters)

    for place, character in enumerate(text):
        characters = around if inside is None else inside
        characters.append((character, place))
        found = TAG_AT_END.search(words_of(characters)) if character == ">" else None
        if not found:
            continue
        tag = characters[found.start() :]
        seam = max((at for at in range(1, len(tag)) if tag[at][1] != tag[at - 1][1] + 1), default=0)
        del characters[found.start() + seam :]
        if seam or found[2].lower() == "gen":
            continue
        if not found[1]:
            if inside is not None:
                noticed.append(("abandoned_caption", words_of(inside)))
            inside = []
        elif inside is None:
            noticed.append(("stray_closing_tag", ""))
        elif clean_caption(words_of(inside)):
            closed.append(words_of(inside))
            inside = None
        else:
            noticed.append(("empty_caption", words_of(inside)))
            inside = None
    if inside is not None:
        noticed.append(("unclosed_caption", words_of(inside)))
    return words_of(around), closed, noticed


@pytest.mark.parametrize(
    ("answer", "text", "drawn"),
    [
        ("<h> a photo of a red fox </h>", "", ("a photo of a red fox",)),
        ("Sure, here it is: <h> a red fox </h>", "Sure, here it is: ", ("a red fox",)),
        ("First <h>a</h> then <h>b</h>.", "First  then .", ("a", "b")),
        ("No picture at all.", "No picture at all.", ()),
        ("<GEN> Here: <h> a fox </h> <GEN>", " Here:  ", ("a fox",)),
        ("< H >a fox</ h>|<h >an owl< / H\n>", "|", ("a fox", "an owl")),
        ("<h> a <GEN>fox\n\n in\tsnow </h>", "", ("a fox in snow",)),
        ("<h> a cat <h> a dog </h>", "", ("a dog",)),
        ("</h> then <h> x", " then ", ()),
        ("<h1>Title</h1><hr><head>, a < h, a<b, <h/>, <gent>, <g en>, ＜h＞", ..., ()),
        ("if a < h and h > 0", ..., ()),
        ("", "", ()),
    ],
)
def test_what_is_read_and_what_is_drawn(answer: str, text: str, drawn: tuple[str, ...]) -> None:
    events = parse(answer)
    assert visible_text(events) == (answer if text is ... else text)
    assert captions(events) == drawn


def test_the_authors_two_ways_to_take_the_caption_and_ours() -> None:
    """Their CLI draws the last pair, and an empty prompt after a stray tag; their web demo draws the first pair."""
    assert captions(parse("<h> the mouse </h> and <h> its cheese </h>")) == ("the mouse", "its cheese")
    events = parse("</h> … <h> x")
    assert captions(events) == ()
    assert notices(events) == (GenNotice("stray_closing_tag"), GenNotice("unclosed_caption", " x"))


def test_the_training_example_of_the_papers_figure_4() -> None:
    answer = "<h> Young boy … clean and simple. </h>"
    assert captions(parse(answer)) == ("Young boy … clean and simple.",)
    assert render_assistant_turn("", captions(parse(answer))) == answer


def test_the_events_of_an_answer() -> None:
    assert parse("A mouse: <h> a mouse </h> Done.") == [
        TextPiece("A mouse: "),
        CaptionOpened(),
        CaptionPiece(" a mouse "),
        CaptionClosed("a mouse"),
        TextPiece(" Done."),
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<h></h>", [GenNotice("empty_caption")]),
        ("<h> \x00\u200b\n</h>", [GenNotice("empty_caption", " \x00\u200b\n")]),
        ("<h> a fox", [GenNotice("unclosed_caption", " a fox")]),
        ("<h> a fox </", [GenNotice("unclosed_caption", " a fox </")]),
        ("a</h>b", [GenNotice("stray_closing_tag")]),
        ("<h><h> a fox </h>", [GenNotice("abandoned_caption")]),
        ("<h> a cat <h> a fox </h>", [GenNotice("abandoned_caption", " a cat ")]),
    ],
)
def test_what_is_not_drawn_gives_a_notice(answer: str, expected: list[GenNotice]) -> None:
    assert list(notices(parse(answer))) == expected


def test_each_reason_is_a_sentence() -> None:
    said = [GenNotice(reason).message for reason in get_args(GenNoticeReason)]
    assert len(set(said)) == len(said)
    assert all(sentence.endswith(".") for sentence in said)


@pytest.mark.parametrize("ending", ["", " ", " <", " </", " </h"])
def test_an_answer_cut_off_in_a_caption_is_drawn_where_that_is_asked_for(ending: str) -> None:
    assert parse("Look: <h> a red fox" + ending, close_at_end=True)[-2:] == [
        GenNotice("caption_closed_at_end", " a red fox" + ending),
        CaptionClosed("a red fox"),
    ]


@pytest.mark.parametrize("answer", ["<h>", "<h> \n", "<h> <"])
def test_an_answer_cut_off_before_the_first_word_is_not_drawn(answer: str) -> None:
    events = parse(answer, close_at_end=True)
    assert captions(events) == ()
    assert notices(events) == (GenNotice("unclosed_caption", answer.removeprefix("<h>")),)


def test_a_caption_of_too_many_words_is_cut_between_two_and_says_so() -> None:
    events = parse("<h>" + "fox " * 3000 + "</h>")
    (caption,) = captions(events)
    assert caption == "fox " * 2499 + "fox"
    assert notices(events) == (GenNotice("caption_cut", ("fox " * 500).strip()),)


def test_a_caption_that_is_one_endless_word_is_cut_within_it() -> None:
    events = parse("<h>a " + "x" * 12_000, close_at_end=True)
    assert captions(events) == ("a " + "x" * (MAX_CAPTION_LENGTH - 2),)
    assert [notice.reason for notice in notices(events)] == ["caption_closed_at_end", "caption_cut"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<<GEN>h>", "<"),
        ("<<GEN>h> a fox", "< a fox"),
        ("<<GEN>h><GEN>/h>h>|", "<|"),
        ("<<h> a fox </h>/h>|", "<|"),
        ("<h<GEN>>|", "<h|"),
        ("<<GEN>h<GEN>>|", "<h|"),
        ("<<GEN>hen", "<hen"),
        ("a <<GEN> b", "a < b"),
    ],
)
def test_a_tag_that_comes_together_by_dropping_another_is_not_read(answer: str, text: str) -> None:
    for events in (parse(answer), feed(list(answer))):
        assert visible_text(events) == text


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a <", "h", "1>"], ["a ", "", "<h1>"]),
        (["a <", " h", " and"], ["a ", "", "< h and"]),
        (["<", "<", "<"], ["", "<", "<"]),
        (["a<b", "<GE", "N>c"], ["a<b", "", "c"]),
        (["<    \n", " / ", "hello"], ["", "", "<    \n / hello"]),
    ],
)
def test_text_leaves_as_soon_as_it_cannot_be_a_tag(pieces: list[str], expected: list[str]) -> None:
    parser = GenProtocolParser()
    assert [visible_text(parser.feed(piece)) for piece in pieces] == expected


def test_half_a_tag_at_the_end_is_text() -> None:
    parser = GenProtocolParser()
    assert parser.feed("a <h") == [TextPiece("a ")]
    assert parser.close() == [TextPiece("<h")]


def test_a_parser_begins_anew_after_an_answer() -> None:
    parser = GenProtocolParser()
    parser.feed("<<GEN>")
    parser.close()
    parser.feed("<h> a fox")
    parser.close()
    assert parser.feed("h></h") == [TextPiece("h>")]
    assert parser.close() == [TextPiece("</h")]
    assert parser.close() == []


@settings(max_examples=200)
@given(broken)
@example("<<h></h>h>")
@example("<h><<h>h></h>/h></h>")
def test_the_parser_reads_what_a_slow_one_reads(text: str) -> None:
    events = parse(text)
    read, closed, noticed = slow(text)
    assert visible_text(events) == read
    assert captions(events) == tuple(map(clean_caption, closed))
    assert [(notice.reason, notice.text) for notice in notices(events)] == noticed


@given(broken, st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_where_the_text_is_cut_changes_nothing(text: str, places: list[int], close_at_end: bool) -> None:
    expected = parse(text, close_at_end=close_at_end)
    assert merged(feed(cut(text, places), close_at_end=close_at_end)) == expected
    assert merged(feed(list(text), close_at_end=close_at_end)) == expected


@given(st.lists(st.tuples(words, words), max_size=4), words)
def test_texts_are_the_answer_without_its_captions(pairs: list[tuple[str, str]], ending: str) -> None:
    answer = "".join(f"{text}<h>{caption}</h>" for text, caption in pairs) + ending
    assert visible_text(parse(answer)) == re.sub(r"<h>.*?</h>", "", answer, flags=re.DOTALL)


@given(broken, st.booleans())
def test_no_tag_is_read_or_drawn(text: str, close_at_end: bool) -> None:
    events = parse(text, close_at_end=close_at_end)
    shown = [
        visible_text(events),
        readable_text(events),
        *captions(events),
        *(notice.text for notice in notices(events)),
    ]
    assert [part for part in shown if TAG.search(part)] == []


@given(broken)
def test_a_caption_has_one_beginning_and_one_end(text: str) -> None:
    is_open = False
    for event in parse(text):
        if isinstance(event, CaptionPiece | CaptionClosed) or (isinstance(event, GenNotice) and event.reason in ENDS):
            assert is_open
            is_open = isinstance(event, CaptionPiece)
        elif isinstance(event, CaptionOpened | TextPiece):
            assert not is_open
            is_open = isinstance(event, CaptionOpened)
    assert not is_open


@given(broken.filter(lambda text: not TAG.search(text)))
def test_only_the_beginning_of_a_tag_is_held_back(text: str) -> None:
    parser = GenProtocolParser()
    out = ""
    for end, character in enumerate(text, start=1):
        out += visible_text(parser.feed(character))
        held = text[len(out) : end]
        assert text.startswith(out)
        assert not held or BEGINNING.fullmatch(held)
    assert out + visible_text(parser.close()) == text


@given(st.text(st.characters(codec=None)), st.booleans())
def test_any_text_is_read(text: str, close_at_end: bool) -> None:
    assert visible_text(parse(text, close_at_end=close_at_end)) == slow(text)[0]


@given(broken)
def test_events_go_through_json(text: str) -> None:
    adapter: TypeAdapter[list[GenEvent]] = TypeAdapter(list[GenEvent])
    events = parse(text.encode("utf-8", "replace").decode("utf-8"))
    assert adapter.validate_json(adapter.dump_json(events)) == events


class CountedText(str):
    """A text that counts the characters that are copied from it."""

    num_copied = 0

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        part = super().__getitem__(key)
        self.num_copied += len(part)
        return part


UNITS = ["<", "<h", "< ", "<h>", "<GEN>", "</h>", "<<GEN>h>", "<h>a</h>"]


@pytest.mark.parametrize("unit", UNITS)
def test_no_character_is_copied_twice(unit: str) -> None:
    text = CountedText(unit * 2_000)
    GenProtocolParser().feed(text)
    assert text.num_copied <= 2 * len(text)  # once out of the text, and here and there one is looked at


@pytest.mark.parametrize("unit", UNITS)
def test_time_is_linear(unit: str) -> None:
    """Were it quadratic it would take minutes; the bound leaves room for a busy machine."""
    start = time.process_time()
    parse(unit * (1_000_000 if len(unit) < 3 else 20_000))
    feed(list(unit * 10_000))
    assert time.process_time() - start < 10


@pytest.mark.parametrize("beginning", ["<", "</", "<h", "<<GEN>", "<h><"])
def test_time_is_linear_in_blanks_that_are_held_back(beginning: str) -> None:
    start = time.process_time()
    parse(beginning + " " * 1_000_000)
    feed([*beginning, *(" " * 50_000)])
    assert time.process_time() - start < 10
