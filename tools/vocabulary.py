"""The vocabulary of a small generator, and how a caption is mapped onto it.

A model that was trained on a few hundred words draws nothing useful for any other word. If a generator's capabilities
have a vocabulary, it gets prompts of known words only, in the form that it was trained on, and a notice names the words
of the caption that are not drawn. If no word is known, the request is refused.
"""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.tools.caption_words import CaptionWord, FoundWord, name_looks, read_words
from mgem_agent.tools.english_words import COLOURS, NUMBERS, PLAIN_WORDS

__all__ = ["AdaptedCaption", "Vocabulary", "VocabularyWord"]

_MAX_NAMED = 8
"""Maximum number of words that a notice names."""
_WORN = "below"
_WEARING = ("wearing", "wears", "with", "in", "has", "having")
"""Words between a thing and what it wears."""
_ATTRIBUTES = COLOURS | PLAIN_WORDS | NUMBERS.keys() | frozenset("a an the this that its his her their another".split())
_NUMBER_WORDS = {number: word for word, number in reversed(NUMBERS.items())}


class VocabularyWord(BaseModel):
    """A thing or a place that can be drawn.

    Attributes:
        name: Its name.
        phrase: Its form in a caption: "a red apple", "in the snow".
        names: Its other names, in lower case.
        plurals: Its plurals.
        colour: The colour that it is drawn in, if one word names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    phrase: str
    names: tuple[str, ...] = ()
    plurals: tuple[str, ...] = ()
    colour: str | None = None


class AdaptedCaption(BaseModel):
    """A caption as a generator can draw it.

    Attributes:
        prompt: The prompt in known words; empty if the caption has none.
        things: Names of the things in it.
        place: Name of the place, if the caption has one.
        replaced: Unknown words, each with the thing that is drawn instead.
        left_out: Words and counts that are not drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    things: tuple[str, ...] = ()
    place: str | None = None
    replaced: dict[str, str] = Field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """A sentence about the differences from the caption; empty if there are none."""
        parts = [f"{word!r} is drawn as {thing!r}" for word, thing in list(self.replaced.items())[:_MAX_NAMED]]
        if self.left_out:
            more = len(self.left_out) - _MAX_NAMED
            named = ", ".join(map(repr, self.left_out[:_MAX_NAMED])) + (f" and {more} more" if more > 0 else "")
            parts.append(f"not drawn: {named}")
        return "; ".join(parts)


class Vocabulary(BaseModel):
    """Everything that a generator can draw.

    Attributes:
        things: Things.
        places: Places and grounds.
        near: Other words, each with the name of the thing or place that is drawn instead.
        default_place: Name of the place if a caption names none.
        max_things: Maximum number of different things in one picture.
        max_count: Maximum number of one thing, if it is the only thing.
        relations: Phrases for the relative position of two things, each with the words that mean it.
        head_wear: Names of things that are worn on the head: what wears one is below it.

    Examples:
        >>> cat = VocabularyWord(name="cat", phrase="a cat", plurals=("cats",))
        >>> snow = VocabularyWord(name="snow", phrase="in the snow")
        >>> known = Vocabulary(things=(cat,), places=(snow,), default_place="snow")
        >>> known.adapt("two cats with a violin").prompt
        'a cat in the snow'
        >>> known.adapt("two cats with a violin").message
        "not drawn: 'violin', 'two cats'"
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    things: tuple[VocabularyWord, ...]
    places: tuple[VocabularyWord, ...]
    near: dict[str, str] = Field(default_factory=dict)
    default_place: str
    max_things: int = Field(default=2, ge=1)
    max_count: int = Field(default=1, ge=1, le=10)
    relations: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    head_wear: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, VocabularyWord]:
        return {word.name: word for word in (*self.places, *self.things)}

    @cached_property
    def _place_names(self) -> frozenset[str]:
        return frozenset(place.name for place in self.places)

    @cached_property
    def known_words(self) -> dict[tuple[str, ...], CaptionWord]:
        """Known things and places, keyed by the words that name them in a caption."""
        known: dict[tuple[str, ...], CaptionWord] = {}
        for word in (*self.places, *self.things):
            for names, is_plural in (((word.name, *word.names), False), (word.plurals, True)):
                for name in names:
                    # A name that is its own plural, such as socks, is one thing.
                    meant = CaptionWord(word.name, is_plural, word.colour, is_place=word.name in self._place_names)
                    known.setdefault(tuple(name.lower().split()), meant)
        for name, target in self.near.items():
            word = self._by_name[target]
            meant = CaptionWord(target, False, word.colour, is_near=True, is_place=target in self._place_names)
            known.setdefault(tuple(name.lower().split()), meant)
        return known

    def adapt(self, caption: str) -> AdaptedCaption:
        """Map a caption onto the vocabulary; the result maps onto itself.

        Names that the caption describes ("Ida sleeps. Ida: a brown hedgehog") are first replaced with the description.
        """
        words = read_words(name_looks(caption, self.known_words), self.known_words, self.max_count)
        things: list[FoundWord] = []
        places: list[FoundWord] = []
        replaced: dict[str, str] = {}
        left_out: list[str] = list(words.unknown)
        for found in sorted(words.known, key=lambda each: each.word.is_near):  # known words take precedence
            into, most = (places, 1) if found.word.is_place else (things, self.max_things)
            if found.word.name not in (each.word.name for each in into):
                if len(into) >= most:
                    left_out.append(found.text)
                    continue
                into.append(found)
                if found.word.is_near:
                    replaced[found.text] = found.word.name
            left_out.extend(found.unmet)
        if not things and not places:
            return AdaptedCaption(prompt="", left_out=tuple(dict.fromkeys(left_out)))
        if len(things) > 1:
            left_out.extend(f"{_NUMBER_WORDS[each.number]} {each.text}" for each in things if each.number > 1)
        things.sort(key=words.known.index)
        place = places[0].word.name if places else None
        relation, stated = self._relation(things, words.known)
        return AdaptedCaption(
            prompt=f"{self._listed(things, relation)} {self._by_name[place or self.default_place].phrase}".strip(),
            things=tuple(each.word.name for each in things),
            place=place,
            replaced=replaced,
            left_out=tuple(word for word in dict.fromkeys(left_out) if word not in stated),
        )

    def _listed(self, things: list[FoundWord], relation: str | None) -> str:
        """Return a phrase for the things: with their number, or with their relative position if there are two."""
        if len(things) == 1 and things[0].number > 1:
            word = self._by_name[things[0].word.name]
            return f"{_NUMBER_WORDS[things[0].number]} {word.plurals[0] if word.plurals else word.name}"
        return f" {relation or 'and'} ".join(self._by_name[each.word.name].phrase for each in things)

    def _relation(self, things: list[FoundWord], found: list[FoundWord]) -> tuple[str | None, tuple[str, ...]]:
        """Return the relation that the words between two things state, and those words."""
        if len(things) != 2 or found.index(things[1]) != found.index(things[0]) + 1:
            return None, ()
        first, second = things
        if _WORN in self.relations and second.word.name in self.head_wear and first.word.name not in self.head_wear:
            for verb in _WEARING:
                if _states(second.before, verb):
                    return _WORN, (verb,)
        for relation, phrases in self.relations.items():
            for phrase in phrases:
                if _states(second.before, phrase):
                    return relation, tuple(phrase.split())
        return None, ()


def _states(between: str, phrase: str) -> bool:
    """Return whether words before a name state a relation to it: only articles and adjectives may follow them."""
    _, found, after = f" {between} ".rpartition(f" {phrase} ")
    return bool(found) and all(word in _ATTRIBUTES for word in after.split())
