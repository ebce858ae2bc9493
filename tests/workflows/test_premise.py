"""The hero, the things and the place of a premise."""

from __future__ import annotations

import pytest

from mgem_agent.workflows.premise import Premise, read_page, read_premise


@pytest.mark.parametrize(
    ("text", "hero", "things", "place"),
    [
        ("A fox in a snowy forest finds a golden key.", "fox", ("key",), "in a snowy forest"),
        ("An owl and a mouse build a boat on a beach.", "owl", ("mouse", "boat"), "on a beach"),
        ("In the big city, a mouse bakes bread for the king.", "mouse", ("king",), "in the big city"),
        ("The old lighthouse keeper who lived by the sea befriends a whale.", "keeper", ("whale",), "by the sea"),
        ("A princess and a dragon become friends in a castle.", "princess", ("dragon",), "in a castle"),
        ("Mia and her dog search for a lost star in the city.", "Mia", ("dog", "star"), "in the city"),
        ("Fritz the hedgehog looks for the moon at night.", "Fritz", ("hedgehog", "moon"), ""),
        ("Two penguins travel to the desert.", "penguins", ("desert",), ""),
        ("A tired old bear cannot sleep in the woods.", "bear", (), "in the woods"),
        ("Once upon a time there was a crab on a beach who lost his shell.", "crab", ("shell",), "on a beach"),
        ("An octopus sees a walrus under the ice.", "octopus", ("walrus",), "under the ice"),
    ],
)
def test_hero_things_and_place(text: str, hero: str, things: tuple[str, ...], place: str) -> None:
    assert read_premise(text) == Premise(hero, things, place)


@pytest.mark.parametrize("text", ["", "Why does it rain?", "一只狐狸在森林里", "...", "1 2 3"])
def test_a_text_without_a_hero_has_no_premise(text: str) -> None:
    assert read_premise(text) is None


def test_a_page_names_its_things_and_places() -> None:
    nouns, places = read_page("The fox met a hare on a hill. They found the key under an old tree.")
    assert nouns == ("fox", "hare", "key")
    assert places == ("on a hill", "under an old tree")
