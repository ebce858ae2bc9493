"""Reading a caption word by word, for a generator that knows few words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mgem_agent.tools.english_words import (
    COLOURS,
    FUNCTION_WORDS,
    MANY,
    NEGATIONS,
    NUMBERS,
    PLACE_WORDS,
    PLAIN_PHRASES,
    PLAIN_WORDS,
)

__all__ = ["CaptionWord", "FoundWord", "name_looks", "read_words"]

Known = Mapping[tuple[str, ...], "CaptionWord"]
"""Known things and places, keyed by the words that name them in a caption."""

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[.,;:!?]")
_LOOKS = re.compile(r"(?:^|(?<=[.!?] ))([^\W\d_][\w'’ -]{0,40}): ([^.!?]+)[.!?]?(?= |$)")
_ENDS = frozenset(".,;:!?")
_GROUNDS = frozenset({"background", "backdrop"})
"""These count as names only if the caption gives them a colour."""
_BEFORE = 4
"""Number of words before a name that may give its number or colour."""


@dataclass(frozen=True, slots=True)
class CaptionWord:
    """The meaning of a word in a caption.

    Attributes:
        name: The thing or place.
        is_plural: Whether the word means more than one.
        colour: The colour that it is drawn in, or None.
        is_near: Whether the word names another thing and this one is drawn instead.
        is_place: Whether it is a place. A place has no colour or number.
    """

    name: str
    is_plural: bool
    colour: str | None
    is_near: bool = False
    is_place: bool = False


@dataclass(frozen=True, slots=True)
class FoundWord:
    """A known word in a caption.

    Attributes:
        word: Its meaning.
        text: The words as the caption has them.
        unmet: Details of the caption that are not drawn: a number, a colour.
        number: Number of things, if the caption states one and it can be drawn.
        before: The words between it and the known word before it.
    """

    word: CaptionWord
    text: str
    unmet: tuple[str, ...] = ()
    number: int = 1
    before: str = ""


@dataclass(slots=True)
class CaptionReading:
    """The words found in a caption.

    Attributes:
        known: Known words, in order.
        unknown: Words that name something unknown.
    """

    known: list[FoundWord] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def name_looks(caption: str, known: Known) -> str:
    """Replace names with the descriptions that the caption gives for them.

    A description is a sentence such as "Ida: a small brown hedgehog". In the other sentences, the name is replaced with
    the first known thing of its description. If no other sentence has the name, the description is kept.
    """
    given = [match for match in _LOOKS.finditer(caption) if _is_name(match[1], known)]
    if not given:
        return caption
    looks = {match[1]: match[2] for match in given}
    scene = caption
    for match in given:
        scene = scene.replace(match[0], "", 1)
    scene = " ".join(scene.split())
    unused = []
    for name, look in looks.items():
        found = read_words(look, known).known
        head = found[0].text if found else look
        scene, num_replaced = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)(?:['’]s\b)?", f"the {head}", scene)
        if not num_replaced or not found:
            unused.append(look)
        elif rest := [f"the {each.text}" for each in found[1:]]:
            unused.append(", ".join(rest))
    return ", ".join(part for part in (scene.rstrip(" .,"), *unused) if part)


def _is_name(word: str, known: Known) -> bool:
    """Whether the text before a colon is a name rather than a thing that can be drawn."""
    return not word[0].islower() and not read_words(word, known).known


def read_words(caption: str, known: Known, max_count: int = 1) -> CaptionReading:
    """Find the known things in a caption, longest names first, and the unknown words.

    Args:
        caption: The caption.
        known: The known things and places.
        max_count: Maximum number of one thing that can be drawn.
    """
    tokens = [token.replace("’", "'") for token in _TOKEN.findall(caption.lower())]
    tokens = [token.removesuffix("'s") if token not in PLAIN_WORDS else token for token in tokens]
    longest = max(map(len, known), default=1)
    reading = CaptionReading()
    start, negated = 0, False
    before: list[str] = []
    while start < len(tokens):
        length = next((n for n in range(longest, 0, -1) if tuple(tokens[start : start + n]) in known), 0)
        token = tokens[start]
        if plain := next((n for n in (3, 2) if tuple(tokens[start : start + n]) in PLAIN_PHRASES), 0):
            length = plain
        elif length:
            text = " ".join(tokens[start : start + length])
            if not negated:
                word = known[tuple(tokens[start : start + length])]
                number = _drawn_number(word, before[-_BEFORE:], max_count)
                unmet = _unmet(word, text, before[-_BEFORE:], is_counted=number > 1)
                reading.known.append(FoundWord(word, text, unmet, number, " ".join(before)))
            before, negated = [], False
        elif token in NEGATIONS:
            negated = True
        elif negated and token in PLACE_WORDS:
            negated = False
        elif token in _ENDS:
            before, negated = [], False
        elif token in _GROUNDS:
            reading.unknown.extend(f"{colour} {token}" for colour in before[-1:] if colour in COLOURS)
        else:
            before.append(token)
            is_naming = token not in FUNCTION_WORDS and token not in PLAIN_WORDS and not token.isdecimal()
            if is_naming and token not in COLOURS and token not in NUMBERS and token not in MANY and not negated:
                reading.unknown.append(token)
        start += length or 1
    return reading


def _drawn_number(word: CaptionWord, before: list[str], max_count: int) -> int:
    """Return the number of things that the words before a name state; 1 if they state none or too many."""
    stated = next((each for each in before if each in NUMBERS or each in MANY or _is_many(each)), None)
    if stated is None or word.is_place or stated in MANY:
        return 1
    number = NUMBERS[stated] if stated in NUMBERS else int(stated)
    return number if number <= max_count else 1


def _unmet(word: CaptionWord, text: str, before: list[str], *, is_counted: bool) -> tuple[str, ...]:
    """Return the details that are not drawn: more than one of a thing, or a colour that the thing does not have."""
    if word.is_place:
        return ()
    unmet = []
    number = next((each for each in before if each in NUMBERS or each in MANY or _is_many(each)), None)
    if is_counted:
        pass
    elif number is not None and not word.is_near:
        unmet.append(f"{number} {text}")
    elif word.is_plural:
        unmet.append(f"more than one {word.name}")
    colour = next((each for each in reversed(before) if each in COLOURS), None)
    if colour is not None and colour != word.colour and colour not in word.name.split():
        unmet.append(f"{colour} {text}")
    return tuple(unmet)


def _is_many(token: str) -> bool:
    return token.isdecimal() and int(token) > 1
