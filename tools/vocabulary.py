"""What a generator with a small known vocabulary can draw, and how a caption is mapped onto it.

A model that was trained on some hundred words draws a blank or a blend for every other. One that states its vocabulary
in its capabilities is asked only for what it knows, in the form that it was trained on, and what a caption has besides
is named in a notice. Where nothing is left, the request is refused.
"""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.tools.caption_words import CaptionWord, name_looks, read_words

__all__ = ["AdaptedCaption", "Vocabulary", "VocabularyWord"]

_MAX_NAMED = 8
"""Most words that a notice names."""


class VocabularyWord(BaseModel):
    """A thing or a place that can be drawn.

    Attributes:
        name: What it is called.
        phrase: How a caption says it: "a red apple", "in the snow".
        names: What else a caption may call it, in small letters.
        plurals: Names of more than one of it.
        colour: The colour that it is drawn in, where one word says it.
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
        prompt: What it is asked for; empty where it knows nothing of the caption.
        things: Names of the things in it.
        place: Name of the place, where the caption has one.
        replaced: What is drawn instead of words that it does not know.
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
        """What is not drawn as the caption has it, in a sentence; empty where everything is."""
        parts = [f"{word!r} is drawn as {thing!r}" for word, thing in list(self.replaced.items())[:_MAX_NAMED]]
        if self.left_out:
            more = len(self.left_out) - _MAX_NAMED
            named = ", ".join(map(repr, self.left_out[:_MAX_NAMED])) + (f" and {more} more" if more > 0 else "")
            parts.append(f"not drawn: {named}")
        return "; ".join(parts)


class Vocabulary(BaseModel):
    """All that a generator can draw.

    Attributes:
        things: Things.
        places: Places and grounds.
        near: Other words, each with the name of the thing or place that is drawn for it.
        default_place: Name of the place where a caption has none.
        max_things: Most things in one picture, each once.

    Examples:
        >>> cat = VocabularyWord(name="cat", phrase="a cat", plurals=("cats",))
        >>> snow = VocabularyWord(name="snow", phrase="in the snow")
        >>> known = Vocabulary(things=(cat,), places=(snow,), default_place="snow")
        >>> known.adapt("two cats with a violin").prompt
        'a cat in the snow'
        >>> known.adapt("two cats with a violin").message
        "not drawn: 'two cats', 'violin'"
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    things: tuple[VocabularyWord, ...]
    places: tuple[VocabularyWord, ...]
    near: dict[str, str] = Field(default_factory=dict)
    default_place: str
    max_things: int = Field(default=2, ge=1)

    @cached_property
    def _by_name(self) -> dict[str, VocabularyWord]:
        return {word.name: word for word in (*self.places, *self.things)}

    @cached_property
    def _place_names(self) -> frozenset[str]:
        return frozenset(place.name for place in self.places)

    @cached_property
    def _known(self) -> dict[tuple[str, ...], CaptionWord]:
        """What is known, by the words that a caption says it with."""
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
        """Map a caption onto what can be drawn; what comes out is mapped onto itself.

        Names whose looks the caption gives ("Ida sleeps. Ida: a brown hedgehog") are replaced by those looks first.
        """
        words = read_words(name_looks(caption, self._known), self._known)
        things: list[str] = []
        places: list[str] = []
        replaced: dict[str, str] = {}
        left_out: list[str] = list(words.unknown)
        for found in sorted(words.known, key=lambda each: each.word.is_near):  # what is known itself comes first
            into, most = (places, 1) if found.word.is_place else (things, self.max_things)
            if found.word.name not in into:
                if len(into) >= most:
                    left_out.append(found.text)
                    continue
                into.append(found.word.name)
                if found.word.is_near:
                    replaced[found.text] = found.word.name
            left_out.extend(found.unmet)
        if not things and not places:
            return AdaptedCaption(prompt="", left_out=tuple(dict.fromkeys(left_out)))
        place = places[0] if places else None
        return AdaptedCaption(
            prompt=self._phrase(things, place or self.default_place),
            things=tuple(things),
            place=place,
            replaced=replaced,
            left_out=tuple(dict.fromkeys(left_out)),
        )

    def _phrase(self, things: list[str], place: str) -> str:
        listed = " and ".join(self._by_name[thing].phrase for thing in things)
        return f"{listed} {self._by_name[place].phrase}".strip()
