from __future__ import annotations

from collections import Counter

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.concepts import concept_named, find_concept, load_concepts
from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS


def test_there_are_about_250_and_each_name_is_of_one_only() -> None:
    assert 240 <= len(load_concepts()) <= 270
    names = Counter(name for concept in load_concepts() for name in concept.names)
    assert {name for name, number in names.items() if number > 1} == set()
    assert len({concept.picture for concept in load_concepts()}) == len(load_concepts())


def test_colours_are_words_that_questions_use() -> None:
    assert {concept.colour for concept in load_concepts()} - {None} <= set(INK_COLOURS)


def test_a_synonym_finds_its_concept() -> None:
    assert concept_named("bunny").name == "rabbit"
    assert find_concept("gryphon") is None
    with pytest.raises(InputError, match="No concept is called 'gryphon'. There are 2"):
        concept_named("gryphon")
