from __future__ import annotations

import doctest

import pytest

from mgem_agent.recipes.nano.world import nouns


def test_the_examples_hold() -> None:
    assert doctest.testmod(nouns).failed == 0


@pytest.mark.parametrize(
    ("noun", "with_article", "plural"),
    [
        ("t-rex", "a t-rex", "t-rexes"),
        ("jeans", "jeans", "jeans"),
        ("ufo", "a ufo", "ufos"),
        ("eagle", "an eagle", "eagles"),
        ("maple leaf", "a maple leaf", "maple leaves"),
        ("cup of coffee", "a cup of coffee", "cups of coffee"),
        ("santa claus", "santa claus", "santa claus"),
        ("hot dog", "a hot dog", "hot dogs"),
    ],
)
def test_articles_and_plurals(noun: str, with_article: str, plural: str) -> None:
    assert nouns.with_article(noun) == with_article
    assert nouns.plural(noun) == plural


def test_numbers_and_verbs() -> None:
    assert nouns.counted("fox", 3) == "three foxes"
    assert nouns.counted("owl", 1) == "an owl"
    assert (nouns.verb_for("jeans"), nouns.verb_for("fox"), nouns.verb_for("fox", 2)) == ("are", "is", "are")
    assert nouns.joined_with_and(["a"]) == "a"
