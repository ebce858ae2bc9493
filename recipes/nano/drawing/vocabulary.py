"""The vocabulary of nano's generator: its things and places, and other words for them.

    python -m mgem_agent.recipes.nano vocabulary FILE

Captions made from it have the form that the generator was trained on: one or two things, or two or three of one thing,
and a place.
`other_words.csv` adds words that are not in the training data: synonyms, and words that are drawn as something similar.
"""

from __future__ import annotations

import csv
import importlib.resources
from pathlib import Path

from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS, Background
from mgem_agent.recipes.nano.world.concepts import Concept, load_concepts
from mgem_agent.recipes.nano.world.nouns import is_countable, plural, with_article
from mgem_agent.tools.vocabulary import Vocabulary, VocabularyWord

__all__ = ["nano_vocabulary", "write_vocabulary"]

_DEFAULT_PLACE = "plain blue"
_NO_NAMES = frozenset({"die", "drop", "palm", "home"})
"""Synonyms that mean something else in most captions."""
_ADJECTIVES = {"snow": ("snowy",), "night sky": ("night", "starry"), "mountains": ("mountain", "mountainous")}
"""Adjectives that imply a place."""

_RELATIONS = {
    "to the left of": ("left of", "on the left and"),
    "to the right of": ("right of", "on the right and"),
    "above": ("above", "over", "on top of", "riding on", "rides on", "riding", "rides", "on", "onto"),
    "below": ("below", "under", "beneath", "underneath"),
}
_HEAD_WEAR = ("cap", "crown", "graduation cap", "top hat")


def nano_vocabulary() -> Vocabulary:
    """Return the vocabulary of the generator."""
    file = importlib.resources.files("mgem_agent.recipes.nano.world") / "other_words.csv"
    others = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    same: dict[str, list[str]] = {}
    for row in others:
        if row["is_same"] == "yes":
            same.setdefault(row["drawn_as"], []).append(row["word"])
    near = {row["word"]: row["drawn_as"] for row in others if row["is_same"] == "no"}
    near |= {plural(word): target for word, target in near.items() if is_countable(word) and not word.endswith("s")}
    things = tuple(_thing(concept, same.get(concept.name, [])) for concept in load_concepts())
    places = tuple(_place(background) for background in BACKGROUNDS)
    own = {name for word in (*things, *places) for name in (word.name, *word.names, *word.plurals)}
    return Vocabulary(
        things=things,
        places=places,
        near={word: target for word, target in near.items() if word not in own},
        default_place=_DEFAULT_PLACE,
        max_things=2,
        max_count=3,
        relations=_RELATIONS,
        head_wear=_HEAD_WEAR,
    )


def write_vocabulary(file: Path) -> None:
    """Write the vocabulary to a file that `NanoGenerator` reads."""
    file.write_text(nano_vocabulary().model_dump_json(indent=1, exclude_defaults=True) + "\n", encoding="utf-8")


def _thing(concept: Concept, others: list[str]) -> VocabularyWord:
    names = [name for name in (*concept.names, *others) if name not in _NO_NAMES]
    return VocabularyWord(
        name=concept.name,
        phrase=with_article(concept.name),
        names=tuple(names[1:]),
        plurals=tuple(plural(name) for name in names if plural(name) not in names),
        colour=concept.colour,
    )


def _place(background: Background) -> VocabularyWord:
    bare = [phrase.split(" ", 1)[1] for phrase in background.phrases if " " in phrase]
    bare += [phrase.removeprefix("the ").removeprefix("a ").removeprefix("an ") for phrase in bare]
    names = [*background.phrases, *bare, *_ADJECTIVES.get(background.name, ())]
    if background.colour is not None:  # "a red car on a blue background", not "a blue car"
        names.append(f"{background.name} background")
    return VocabularyWord(
        name=background.name, phrase=background.phrases[0], names=tuple(dict.fromkeys(map(str.lower, names)))
    )
