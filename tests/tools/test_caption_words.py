from __future__ import annotations

import pytest

from mgem_agent.tools.caption_words import CaptionWord, name_looks, read_words

FOX, FOXES = CaptionWord("fox", False, "orange"), CaptionWord("fox", True, "orange")
SNOW, PINE = CaptionWord("snow", False, None, is_place=True), CaptionWord("fir tree", False, "green", is_near=True)
KNOWN = {("fox",): FOX, ("red", "fox"): FOX, ("foxes",): FOXES, ("snow",): SNOW, ("pine", "tree"): PINE}


@pytest.mark.parametrize(
    ("caption", "known", "unknown"),
    [
        ("A red fox in the snow.", [("red fox", ()), ("snow", ())], []),
        ("an orange fox", [("fox", ())], []),
        ("a blue fox", [("fox", ("blue fox",))], []),
        ("seven little foxes", [("foxes", ("seven foxes",))], []),
        ("3 foxes", [("foxes", ("3 foxes",))], []),
        ("foxes", [("foxes", ("more than one fox",))], []),
        ("the fox's den", [("fox", ())], ["den"]),
        ("snow, no fox", [("snow", ())], []),
        ("a fox without any big blue den in the snow", [("fox", ()), ("snow", ())], []),
        ("a green pine tree", [("pine tree", ())], []),
        ("red snow on a white background", [("snow", ())], ["white background"]),
        ("a picture book illustration of a fox", [("fox", ())], []),
        ("", [], []),
    ],
)
def test_what_a_caption_names(caption: str, known: list[tuple[str, tuple[str, ...]]], unknown: list[str]) -> None:
    reading = read_words(caption, KNOWN)
    assert [(found.text, found.unmet) for found in reading.known] == known
    assert reading.unknown == unknown


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("Ida runs in the snow. Ida: a small red fox. warm light", "the red fox runs in the snow. warm light"),
        ("Ida's den. Ida: a fox in the snow", "the fox den, the snow"),
        ("A den. Ida: a fox", "A den, a fox"),
        ("Tim waits. Tim: a boy", "the a boy waits, a boy"),
        ("a fox: red and warm", "a fox: red and warm"),
    ],
)
def test_names_are_replaced_by_their_looks(caption: str, named: str) -> None:
    assert name_looks(caption, KNOWN) == named
