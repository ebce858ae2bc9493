"""Questions and requests without a picture, about the things and places of nano's world, for `recipes.data.replay`."""

from __future__ import annotations

import functools
import importlib.resources
import random

from mgem_agent.recipes.nano.world.backgrounds import SCENERY
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.nouns import is_countable, plural, with_article, with_capital

__all__ = ["replay_question"]


@functools.cache
def _question_forms() -> tuple[str, ...]:
    file = importlib.resources.files("mgem_agent.recipes.nano.world") / "prompts" / "replay.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def replay_question(index: int, seed: int = 0) -> str:
    """Return a question; most questions of a series are different.

    Args:
        index: Index in the series, from 0.
        seed: Seed of the series.
    """
    forms = _question_forms()
    rng = random.Random(f"replay/{seed}/{index}")
    thing, other = rng.sample([concept.name for concept in load_concepts() if is_countable(concept.name)], 2)
    form = rng.choice([form for form in forms if "{" in form] if rng.random() < 0.75 else forms)
    noun = with_article(thing)
    return form.format(
        thing=noun,
        Thing=with_capital(noun),
        other=with_article(other),
        things=plural(thing),
        others=plural(other),
        place=rng.choice(rng.choice(SCENERY).phrases),
    )
