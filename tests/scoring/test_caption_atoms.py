"""A caption becomes yes/no questions, by rule."""

from __future__ import annotations

import pytest

from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS, read_vocabulary
from mgem_agent.scoring import read_atoms

NANO = read_vocabulary(DIFFUSION_WEIGHTS)


@pytest.mark.parametrize(
    ("caption", "questions"),
    [
        ("a fox", ["Is there a fox in the picture?"]),
        ("the sun over an old mill", ["Is there a sun in the picture?", "Is there a mill in the picture?",
                                      "Is the sun over the mill?"]),
        ("two cats", ["Are there cats in the picture?", "Are there exactly two cats in the picture?"]),
        ("a red car", ["Is there a car in the picture?", "Is the car red?"]),
        ("a wooden table", ["Is there a table in the picture?", "Is the table wooden?"]),
        ("A man running.", ["Is there a man in the picture?", "Is the man running?"]),
        ("a dog to the left of a cat", ["Is there a dog in the picture?", "Is there a cat in the picture?",
                                        "Is the dog to the left of the cat?"]),
        ("a girl riding a bicycle", ["Is there a girl in the picture?", "Is there a bicycle in the picture?",
                                     "Is the girl riding the bicycle?"]),
        ("a knight with a sword on a horse", ["Is there a knight in the picture?", "Is there a sword in the picture?",
                                              "Is there a horse in the picture?", "Is the knight on the horse?"]),
        ("a horse on Mars", ["Is there a horse in the picture?", "Does the picture show Mars?",
                             "Is the horse on Mars?"]),
        ('a door with the words "KEEP OUT"', ['Does the picture show the printed text "KEEP OUT"?',
                                              "Is there a door in the picture?"]),
        ("a table with no people", ["Is there a table in the picture?"]),
        ("an oil painting of a boat, warm light, cinematic lighting", ["Is there a boat in the picture?"]),
        ("Ida waits. Ida: a brown hedgehog. soft watercolour", ["Is there a hedgehog in the picture?",
                                                                "Is the hedgehog brown?"]),
    ],
)  # fmt: skip
def test_what_a_caption_says(caption: str, questions: list[str]) -> None:
    reading = read_atoms(caption)
    assert [atom.question for atom in reading.atoms] == questions
    assert reading.is_complete


@pytest.mark.parametrize(
    ("caption", "unread"),
    [
        ("a fox jumps over a dog", ("jumps",)),
        ("ein Fuchs im Schnee", ("ein", "fuchs", "im", "schnee")),
        ("", ()),
    ],
)
def test_a_caption_that_the_rules_do_not_read(caption: str, unread: tuple[str, ...]) -> None:
    reading = read_atoms(caption)
    assert reading.unread == unread
    assert not reading.is_complete


def test_the_words_of_a_vocabulary_are_known() -> None:
    [fox, place] = read_atoms("a red fox in the snow", NANO).atoms
    assert (fox.kind, fox.question) == ("thing", "Is there a fox in the picture?")
    assert (place.kind, place.question) == ("place", "Is there a fox in the snow in the picture?")
    assert place.needs == (fox.question,)


def test_what_a_thing_is_like_needs_the_thing() -> None:
    atoms = {atom.kind: atom for atom in read_atoms("two red cats on a mat").atoms}
    cats = ("Are there cats in the picture?",)
    assert atoms["count"].needs == cats and atoms["colour"].needs == cats
    assert atoms["relation"].needs == (*cats, "Is there a mat in the picture?")


def test_the_same_question_is_asked_once() -> None:
    assert len(read_atoms("a fox, a fox and a fox").atoms) == 1
