"""The concepts of scenes: about 260 things, each with its names, its group and, if it has one, its colour.

The list is `concepts.csv`: things that are distinguishable in a small picture. A name or synonym belongs to only one
concept, so that every question has one right answer.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass

from mgem_agent.errors import InputError

__all__ = ["Concept", "concept_named", "find_concept", "load_concepts"]


@dataclass(frozen=True)
class Concept:
    """A thing that can be drawn.

    Args:
        name: Short noun, such as "red apple".
        synonyms: Other names.
        group: "animals", "food", "vehicles", …
        colour: Its colour in one word; None if it has no single colour.
        picture: Name of its picture in the emoji set, without the suffix.
        tags: Its tags in Unicode's annotations.
    """

    name: str
    synonyms: tuple[str, ...]
    group: str
    colour: str | None
    picture: str
    tags: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the synonyms."""
        return (self.name, *self.synonyms)

    @property
    def coloured_name(self) -> str:
        """The name with its colour, if known and not in the name: "orange fox"."""
        is_said = self.colour is None or self.colour in self.name.split()
        return self.name if is_said else f"{self.colour} {self.name}"


@functools.cache
def load_concepts() -> tuple[Concept, ...]:
    """Return all concepts, in the order of the list."""
    file = importlib.resources.files("mgem_agent.recipes.nano.world") / "concepts.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(
        Concept(
            name=row["name"],
            synonyms=tuple(row["synonyms"].split(";")) if row["synonyms"] else (),
            group=row["group"],
            colour=row["colour"] or None,
            picture=row["picture"],
        )
        for row in rows
    )


@functools.cache
def _by_any_name() -> dict[str, Concept]:
    return {name: concept for concept in load_concepts() for name in concept.names}


def concept_named(name: str) -> Concept:
    """Return the concept of a name or synonym.

    Raises:
        InputError: If nothing has this name.
    """
    concept = find_concept(name)
    if concept is None:
        raise InputError(
            f"No concept is called {name!r}. There are {len(load_concepts())}, in recipes/nano/world/concepts.csv."
        )
    return concept


def find_concept(name: str) -> Concept | None:
    """Return the concept of a name or synonym, or None."""
    return _by_any_name().get(name)
