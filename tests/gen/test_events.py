"""What is made of events: neighbours joined, and the blanks that captions leave behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.gen.events import (
    CaptionClosed,
    CaptionPiece,
    GenEvent,
    GenNotice,
    TextPiece,
    merged,
    readable_text,
    visible_text,
)
from mgem_agent.gen.parser import parse


def test_neighbouring_pieces_of_one_kind_are_joined() -> None:
    events: list[GenEvent] = [TextPiece("a"), TextPiece("b"), CaptionPiece("c"), CaptionPiece("d"), TextPiece("e")]
    assert merged(events) == [TextPiece("ab"), CaptionPiece("cd"), TextPiece("e")]


def test_notices_and_captions_are_never_joined() -> None:
    events: list[GenEvent] = [GenNotice("empty_caption"), GenNotice("empty_caption"), CaptionClosed("a")] * 2
    assert merged(events) == events


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Here: <h>a</h> and here.", "Here: and here."),
        ("Here:<h>a</h>and here.", "Here:and here."),
        ("A fox.\n\n<h>a</h>\n\nIt is red.", "A fox.\n\nIt is red."),
        ("A fox.\n<h>a</h>\nIt is red.", "A fox.\nIt is red."),
        ("A fox.\n<h>a</h>\n\n<h>b</h>\nIt is red.", "A fox.\n\nIt is red."),
        ("A fox.\n<h>a</h> It is red.", "A fox.\nIt is red."),
        ("Code:\n\n<h>a</h>\n    x = 1", "Code:\n\n    x = 1"),
        ("One.\n\n\n\nTwo. <h>a</h>", "One.\n\n\n\nTwo."),
        ("\n<h>a</h>\n", ""),
        ("<h>a</h>", ""),
        ("", ""),
    ],
)
def test_a_caption_leaves_one_gap(answer: str, text: str) -> None:
    assert readable_text(parse(answer)) == text


@given(st.lists(st.sampled_from(["a", " ", "\n", "\t", "<h>b</h>", "</h>", "<GEN>"]), max_size=16).map("".join))
def test_only_blanks_are_mended(answer: str) -> None:
    events = parse(answer)
    assert "".join(readable_text(events).split()) == "".join(visible_text(events).split())
