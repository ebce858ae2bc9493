"""Requests for a picture, refusals and plain talk, told apart; on sentences the grammar was not tuned on, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.nano.drawing_intent import read_drawing_intent

LISTS = Path(__file__).parent / "drawing_intents"


def sentences(name: str) -> list[tuple[str, str]]:
    """The sentences of a list, each with what it wishes."""
    lines = (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(text, wish) for wish, text in rows if "\t" not in text]


@pytest.mark.parametrize(("text", "wish"), sentences("tuning"))
def test_the_sentences_of_the_grammar(text: str, wish: str) -> None:
    assert read_drawing_intent(text) == wish


def test_few_sentences_that_it_was_not_tuned_on_are_misread() -> None:
    rows = sentences("held_out")
    requests = [text for text, wish in rows if wish == "draw"]
    others = [text for text, wish in rows if wish == "words"]
    assert min(len(requests), len(others)) >= 30
    missed = [text for text in requests if read_drawing_intent(text) == "words"]
    drawn = [text for text in others if read_drawing_intent(text) == "draw"]
    assert len(missed) <= 0.12 * len(requests), missed
    assert len(drawn) <= 0.05 * len(others), drawn


def test_odd_spelling_and_long_text_are_read() -> None:
    assert read_drawing_intent("PLEASE DON’T DRAW ANYTHING") == "words"
    assert read_drawing_intent("") == read_drawing_intent("…") == "open"
    assert read_drawing_intent("no " * 20_000 + "fox") in ("words", "open")
    assert read_drawing_intent("zeig mir ein " * 5_000) in ("draw", "open")
