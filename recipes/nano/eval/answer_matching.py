"""Scoring of answers: exact about names, tolerant about wording.

Case, punctuation and other words are ignored; only whole words match. The longest name counts: "a green apple" names a
green apple, not an apple. Yes or no must be the first word, and its opposite must not follow.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from mgem_agent.recipes.nano.world.concepts import concept_named, load_concepts
from mgem_agent.recipes.nano.world.nouns import plural

__all__ = ["is_right_answer", "names_all_things"]

_OPPOSITE = {"yes": "no", "no": "yes"}


def is_right_answer(kind: str, answer: str, accepted: Iterable[str]) -> bool:
    """Return whether an answer is right.

    Args:
        kind: Kind of the question, one of `QUESTION_KINDS`.
        answer: The answer.
        accepted: A right answer names one of these.
    """
    words = _words(answer)
    wanted = {_words(name) for name in accepted}
    if kind == "yes_no":
        first, *others = words.split() or [""]
        return first in wanted and _OPPOSITE.get(first) not in others
    if kind == "what" and wanted <= _all_names():
        return not wanted.isdisjoint(_named(words))
    return any(re.search(rf"\b{re.escape(name)}\b", words) for name in wanted)


def names_all_things(captions: Sequence[str], wanted: Iterable[str]) -> bool:
    """Return whether captions name every requested thing, by any of its names.

    Args:
        captions: Captions of one answer; each thing must be in one of them.
        wanted: Names of concepts.
    """
    named = {name for caption in captions for name in _named(_words(caption))}
    return all(
        any(_words(form) in named for name in concept_named(thing).names for form in (name, plural(name)))
        for thing in wanted
    )


def _words(text: str) -> str:
    """Return the words of a text in lower case, without punctuation."""
    return " ".join(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower()))


@functools.cache
def _all_names() -> frozenset[str]:
    names = {name for concept in load_concepts() for name in concept.names}
    return frozenset(_words(form) for name in names for form in (name, plural(name)))


@functools.cache
def _any_name() -> re.Pattern[str]:
    longest_first = sorted(_all_names(), key=lambda name: (-len(name), name))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")


def _named(words: str) -> set[str]:
    """Return the names in a text, without those that are part of a longer one."""
    return set(_any_name().findall(words))
