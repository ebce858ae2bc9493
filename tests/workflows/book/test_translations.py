from __future__ import annotations

import dataclasses

import pytest

from mgem_agent.workflows.book.translations import WORDS, direction_of, labels_for


def test_every_language_says_everything_and_fills_in_the_same_values() -> None:
    english = dataclasses.asdict(WORDS[0])
    for words in WORDS:
        said = dataclasses.asdict(words)
        assert all(said.values())
        assert {name for name in said if "{}" in said[name]} == {name for name in english if "{}" in english[name]}
    assert len({words.language for words in WORDS}) == len(WORDS)


@pytest.mark.parametrize(("tag", "language"), [("de-AT", "de"), ("PT-br", "pt"), ("ja", "en"), ("deu", "en")])
def test_a_language_that_we_have_not_is_answered_in_english(tag: str, language: str) -> None:
    assert labels_for(tag).language == language


@pytest.mark.parametrize(
    ("tag", "direction"),
    [("en", "ltr"), ("ar", "rtl"), ("fa-IR", "rtl"), ("az-Arab-IR", "rtl"), ("he-Latn", "ltr"), ("ar-1994", "rtl")],
)
def test_direction(tag: str, direction: str) -> None:
    assert direction_of(tag) == direction
