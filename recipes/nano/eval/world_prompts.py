"""Prompts of nano's world in the form of GenEval 2: things, counts, colours and relations.

`world_prompts.jsonl` is what `make_world_prompts(60)` returns; `mgem eval agent` uses it unless another file is given.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.nano.world.concepts import Concept, load_concepts
from mgem_agent.recipes.nano.world.nouns import counted, is_countable, number_word, plural, with_article

__all__ = ["WORLD_PROMPTS", "make_drawable_prompts", "make_world_prompts"]

WORLD_PROMPTS = Path(__file__).with_name("world_prompts.jsonl")
"""The shipped prompts."""

_GROUPS = ("animals", "buildings", "food", "nature", "objects", "vehicles")
_LARGEST_SHARE = 0.75
_RELATIONS = ("to the left of", "to the right of", "above", "below")


@dataclass(frozen=True)
class _Part:
    """A thing of a prompt: its noun, its colour if that is said, and its number."""

    noun: str
    colour: str | None = None
    count: int = 1

    @property
    def words(self) -> str:
        named = self.noun if self.colour is None else f"{self.colour} {self.noun}"
        return with_article(named) if self.count == 1 else counted(named, self.count)

    @property
    def num_atoms(self) -> int:
        """Number of things that it says; "a" does not count."""
        return 1 + (self.colour is not None) + (self.count > 1)

    @property
    def subject(self) -> str:
        """As the subject of a question: "Is the fox" or "Are the foxes"."""
        return f"Is the {self.noun}" if self.count == 1 else f"Are the {plural(self.noun)}"

    def questions(self) -> list[tuple[str, str, str]]:
        """Return its questions, with their right answers and skills."""
        many = plural(self.noun)
        found = [
            (f"How many {many} are in the image?", number_word(self.count), "count"),
            (f"Are there any {many} in the image?", "Yes", "object"),
        ]
        return [*found, (f"{self.subject} {self.colour}?", "Yes", "attribute")] if self.colour else found


def make_world_prompts(num: int, seed: int = 0) -> list[EvalPrompt]:
    """Return prompts of six forms in turn, from one counted thing to two coloured things with a relation.

    Args:
        num: Number of prompts.
        seed: Seed of the things.
    """
    things = [each for each in load_concepts() if _is_plain(each)]
    coloured = [each for each in things if each.colour is not None]
    rng = random.Random(seed)
    made: list[EvalPrompt] = []
    for number in range(num):
        form = number % 6
        first, second = rng.sample(coloured if form in (3, 5) else things, 2)
        colours = (first.colour, second.colour) if form in (3, 5) else (None, None)
        counts = (rng.randint(2, 4) if form in (0, 4, 5) else 1, rng.randint(2, 4) if form == 4 else 1)
        parts = [_Part(first.name, colours[0], counts[0]), _Part(second.name, colours[1], counts[1])]
        if form == 0:
            made.append(_prompt(parts[:1], None))
        else:
            made.append(_prompt(parts, rng.choice(_RELATIONS) if form in (2, 5) else None))
    return made


def make_drawable_prompts(num: int, seed: int = 0) -> list[EvalPrompt]:
    """Return different prompts that nano's generator can draw: two or three of one thing, or two things.

    Args:
        num: Number of prompts.
        seed: Seed of the things.

    Raises:
        InputError: If there are not so many.
    """
    things = [each for each in load_concepts() if _is_plain(each)]
    if num > _LARGEST_SHARE * 4 * len(things):  # a quarter of the prompts each for two and for three of one thing
        raise InputError(f"{num} different prompts are too many for {len(things)} things. Give a file of requests.")
    coloured = [each for each in things if each.colour is not None]
    rng = random.Random(f"drawable/{seed}")
    made: dict[str, EvalPrompt] = {}
    while len(made) < num:
        form = len(made) % 4
        first, second = rng.sample(coloured if form == 3 else things, 2)
        colours = (first.colour, second.colour) if form == 3 else (None, None)
        parts = [_Part(first.name, colours[0], rng.randint(2, 3) if form in (0, 2) else 1)]
        if form in (1, 3):
            parts.append(_Part(second.name, colours[1]))
        prompt = _prompt(parts, rng.choice(_RELATIONS) if form == 1 else None)
        made.setdefault(prompt.prompt, prompt)
    return list(made.values())


def _is_plain(concept: Concept) -> bool:
    """Whether a concept can be counted and coloured in words: no face, no person, no colour in its name."""
    return concept.group in _GROUPS and is_countable(concept.name) and concept.colour not in concept.name.split()


def _prompt(parts: list[_Part], relation: str | None) -> EvalPrompt:
    questions = [question for part in parts for question in part.questions()]
    link = " and " if relation is None else f" {relation} "
    if relation is not None:
        other = parts[1].noun if parts[1].count == 1 else plural(parts[1].noun)
        questions.append((f"{parts[0].subject} {relation} the {other}?", "Yes", "position"))
    return EvalPrompt(
        prompt=link.join(part.words for part in parts),
        atom_count=sum(part.num_atoms for part in parts) + (relation is not None),
        vqa_list=tuple((question, answer) for question, answer, _ in questions),
        skills=tuple(skill for _, _, skill in questions),
    )
