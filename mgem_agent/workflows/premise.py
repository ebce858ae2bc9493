"""Read who and what an English premise is about: its hero, its other things and its place.

There is no parser here: a phrase begins with an article, a number or a possessive, and ends before a preposition, a
conjunction or a verb. What the rules do not find is simply not required of the story.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Premise", "read_page", "read_premise"]

_MAX_WORDS = 4
_MAX_THINGS = 3
_DETERMINERS = frozenset(
    "a an the one two three four five his her its their my our your some every another this that".split()
)
_PLACE_PREPOSITIONS = frozenset("in on at by near under through across over behind inside into along beneath".split())
_FUNCTION_WORDS = _DETERMINERS | _PLACE_PREPOSITIONS | frozenset(
    "of to from with for and or but so then than as if when while who whose which that because until after before "
    "about up down out off away back is are was were be been has have had does do did can could will would may might "
    "must not never it he she they we i you him them us all together where there here very too also by without around "
    "between against during upon why how what".split()
)  # fmt: skip
_ONE = frozenset("a an one his her its my our your every another this that".split())
"""Determiners after which a word in -s is a verb; after others it may be a plural."""

_VERBS = frozenset(
    "become bring build buy cannot carry catch chase climb come cook cross dance decide discover draw dream drive "
    "eat explore fall find fly follow forget get give go grow help hide hunt jump keep learn leave live look lose love "
    "make meet miss open paint plan plant play race read rescue ride run sail save search see sell set share sing sit "
    "sleep start stay steal swim take teach tell travel try visit wait wake walk want wish win work "
    "ate began brought came caught fell felt flew found gave got held kept knew left let lost made met put ran "
    "said sang sat saw slept smiled stood swam told took thought went woke won wrote".split()
)
_WORD = re.compile(r"[^\W\d_][\w'’-]*|[^\w\s]")
_NOT_VERBS = re.compile(r"(?:ss|us|is|'s|’s)$")
_LATIN = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Premise:
    """What a story must not forget.

    Attributes:
        hero: The noun or name of the hero, such as `fox`, without article.
        things: The nouns of other things and characters.
        place: The place with its preposition, such as `in a snowy forest`; empty if the premise names none.
    """

    hero: str
    things: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Phrase:
    words: tuple[str, ...]
    preposition: str

    @property
    def noun(self) -> str:
        return self.words[-1]

    @property
    def is_place(self) -> bool:
        return self.preposition in _PLACE_PREPOSITIONS

    def __str__(self) -> str:
        return " ".join((self.preposition, *self.words))


def read_premise(text: str) -> Premise | None:
    """Read the hero, the things and the place of a premise.

    Args:
        text: A premise in English.

    Returns:
        None if no hero is found.

    Examples:
        >>> read_premise("A fox in a snowy forest finds a golden key.")
        Premise(hero='fox', things=('key',), place='in a snowy forest')
    """
    phrases = list(_phrases(_WORD.findall(text)))
    others = [each.noun for each in phrases if not each.is_place]
    if not others:
        return None
    places = [each for each in phrases if each.is_place]
    things = dict.fromkeys((*others[1:], *(each.noun for each in places[1:])))
    things.pop(others[0], None)
    return Premise(others[0], tuple(things)[:_MAX_THINGS], str(places[0]) if places else "")


def read_page(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read what a page names: the nouns of its things, and its places with their prepositions, in order.

    Args:
        text: The text of a page, in English.
    """
    phrases = list(_phrases(_WORD.findall(text)))
    nouns = dict.fromkeys(each.noun for each in phrases if not each.is_place)
    return tuple(nouns), tuple(dict.fromkeys(str(each) for each in phrases if each.is_place))


def _phrases(tokens: list[str]) -> Iterator[_Phrase]:
    """Return the noun phrases, each with the preposition before it, if there is one."""
    place, is_start = 0, True
    while place < len(tokens):
        word = tokens[place]
        low = word.lower()
        previous = tokens[place - 1].lower() if place else ""
        if low in _DETERMINERS:
            words = _noun_words(tokens, place + 1, is_one=low in _ONE)
            if words and previous != "upon":
                yield _Phrase((low, *words), previous)
                place += len(words)
        elif word[:1].isupper() and low not in _FUNCTION_WORDS and (not is_start or _is_name(tokens, place)):
            yield _Phrase((word,), previous)
        is_start = not _LATIN.match(tokens[min(place, len(tokens) - 1)])
        place += 1


def _is_name(tokens: list[str], place: int) -> bool:
    """Whether a capitalized word at the start of a sentence is a name: a verb or a comma follows it."""
    after = tokens[place + 1] if place + 1 < len(tokens) else ""
    return after in (",", "and", "the", "is", "was", "has") or _looks_like_verb(tokens, place + 1)


def _noun_words(tokens: list[str], start: int, *, is_one: bool) -> tuple[str, ...]:
    """Return the words of a phrase after its determiner."""
    words: list[str] = []
    for place in range(start, min(start + _MAX_WORDS, len(tokens))):
        word = tokens[place]
        if not _LATIN.match(word) or word.lower() in _FUNCTION_WORDS:
            break
        if words and (_looks_like_verb(tokens, place) or (is_one and _ends_in_s(word.lower()))):
            break
        words.append(word.lower() if not word[:1].isupper() or not words else word)
    return tuple(words)


def _looks_like_verb(tokens: list[str], place: int) -> bool:
    """Whether a word after a noun is a verb: "finds a", "wants to", "lived in", "build a", "become friends"."""
    if place >= len(tokens):
        return False
    word = tokens[place].lower()
    if word in _FUNCTION_WORDS:
        return False
    after = tokens[place + 1].lower() if place + 1 < len(tokens) else "."
    is_followed = after in _FUNCTION_WORDS or not _LATIN.match(after)
    has_ending = _ends_in_s(word) or word.endswith("ed")
    return word in _VERBS or after in _DETERMINERS or (has_ending and is_followed)


def _ends_in_s(word: str) -> bool:
    return word.endswith("s") and not _NOT_VERBS.search(word)
