"""Break a caption into atoms: yes/no questions about its things, counts, colours, places, relations and printed text.

The reading is by rule. It first finds the words of a vocabulary, if the generator has one, and then noun phrases: an
article, number or preposition begins one, a function word or a comma ends it. A caption with words that the rules
cannot place is marked as not complete; a reasoner reads it better (`PictureJudge`). Words of style and mood give no
atoms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mgem_agent.tools.caption_words import CaptionWord, FoundWord, name_looks, read_words
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
from mgem_agent.tools.vocabulary import Vocabulary

__all__ = ["MAX_ATOMS", "AtomKind", "CaptionAtom", "CaptionReading", "read_atoms"]

AtomKind = Literal["thing", "count", "colour", "relation", "place", "text", "other"]
"""What an atom is about. `other` is an action, a shape, a material, or anything else that a reasoner asks for."""

MAX_ATOMS = 24
"""Maximum number of atoms of one caption; the first are kept."""

_MAX_COUNT = 99
_MAX_PHRASE_WORDS = 4
_MAX_BARE_WORDS = 2
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[.,;:!?]")
_ARTICLES = frozenset("a an the this that these those its his her their our my your another each every some".split())
_ENDS = frozenset(".,;:!?")
_NOUNS = frozenset(
    "king ring wing string spring building painting ceiling morning evening wedding clothing icing thing being "
    "bed seed reed weed shed sled steed bread dress grass glass bus cross compass cactus octopus walrus".split()
)
"""Nouns that end like a verb."""
_PLAIN_NOUNS = frozenset("book books children clouds ears eyes feathers nose tail wings".split())
"""Words that name a thing after an article, and belong to a style or a thing otherwise."""
_MASS = frozenset("fire fog grass ice lava mist mud rain sand sky smoke snow sunlight sunset water wine".split())
"""Nouns without an article in a question."""
_VISIBLE = frozenset("fluffy furry shiny spotted striped wooden".split())
"""Plain words that state an attribute which can be seen in any picture."""
_STYLE_ADJECTIVES = frozenset(
    "abstract cinematic detailed digital minimalist photographic photorealistic realistic vintage".split()
)
_STYLE_HEADS = frozenset(
    "picture image illustration drawing photo photograph painting art artwork style scene view shot closeup portrait "
    "background backdrop light lighting colours colors render sketch watercolour watercolor photography".split()
)
"""A phrase that ends with one of these is about the style."""
_LOOSE_LINKS = frozenset({"", "and", "with", "of", "or", "plus", "also", "while", "as"})
"""Words between two things that state no relation."""
_NAME = re.compile(r"(?<=[a-z,;] )([A-Z][\w'’-]*)")
_PRINTED = re.compile(
    r"(?:(?:that |which )?(?:says|saying|say|reads|reading|labell?ed|titled|written|printed)\s+|"
    r"(?:with )?the (?:words?|text|letters|inscription)\s+)?[\"“”]([^\"“”]{1,80})[\"“”]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CaptionAtom:
    """One thing that a caption says, as a question about the picture. The right answer is yes.

    Attributes:
        question: The question.
        kind: What it is about.
        words: The words of the caption that it comes from.
        needs: Questions about the things that it is about. If one of them is answered no, this one is too.
    """

    question: str
    kind: AtomKind = "other"
    words: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptionReading:
    """A caption broken into atoms.

    Attributes:
        atoms: The atoms, without duplicates.
        unread: Words that the rules could not place.
    """

    atoms: tuple[CaptionAtom, ...]
    unread: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the atoms say all that the caption says."""
        return bool(self.atoms) and not self.unread


@dataclass(slots=True)
class _Phrases:
    """Noun phrases that were found in a caption.

    Attributes:
        known: The phrases, as `read_words` needs them.
        bare: Phrases without an article.
        actions: Verbs after a phrase, by phrase.
        attributes: Adjectives before a phrase that is asked without them, by phrase.
        names: Words with a capital letter that begin no sentence.
        unread: Words in no phrase.
    """

    known: dict[tuple[str, ...], CaptionWord] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)
    actions: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, list[str]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    unread: list[str] = field(default_factory=list)


def read_atoms(caption: str, vocabulary: Vocabulary | None = None) -> CaptionReading:
    """Break a caption into atoms.

    Args:
        caption: The caption. Looks of named characters ("Ida sleeps. Ida: a brown hedgehog") are read as well.
        vocabulary: Words that are known, such as those of a small generator's capabilities.

    Examples:
        >>> for atom in read_atoms('two cats under a red umbrella, a sign that says "OPEN"').atoms:
        ...     print(atom.kind, atom.question)
        text Does the picture show the printed text "OPEN"?
        thing Are there cats in the picture?
        count Are there exactly two cats in the picture?
        thing Is there an umbrella in the picture?
        colour Is the umbrella red?
        relation Are the cats under the umbrella?
        thing Is there a sign in the picture?
    """
    texts = [match[1].strip() for match in _PRINTED.finditer(caption)]
    known = dict(vocabulary.known_words) if vocabulary is not None else {}
    rest = name_looks(_PRINTED.sub(" ", caption), known)
    phrases = _noun_phrases(rest, known)
    reading = read_words(rest, {**known, **phrases.known}, _MAX_COUNT)
    atoms = [CaptionAtom(f'Does the picture show the printed text "{text}"?', "text", text) for text in texts]
    atoms += _atoms(reading.known, phrases)
    unique = {atom.question: atom for atom in atoms}
    placed = _said(phrases) | _STYLE_ADJECTIVES
    unread = dict.fromkeys(word for word in (*phrases.unread, *reading.unknown) if word not in placed)
    return CaptionReading(tuple(unique.values())[:MAX_ATOMS], tuple(unread))


def _said(phrases: _Phrases) -> set[str]:
    return {*phrases.actions.values(), *(word for words in phrases.attributes.values() for word in words)}


def _noun_phrases(caption: str, known: Mapping[tuple[str, ...], CaptionWord]) -> _Phrases:
    """Find the noun phrases between the known words of a caption."""
    found = _Phrases(names=frozenset(match[1].lower() for match in _NAME.finditer(caption)))
    tokens = [token.replace("’", "'").removesuffix("'s") for token in _TOKEN.findall(caption.lower())]
    longest = max(map(len, known), default=1)
    words: list[str] = []
    article: str | None = None
    last = ""
    is_open, at = True, 0
    while at < len(tokens):
        token = tokens[at]
        length = next((n for n in range(longest, 0, -1) if tuple(tokens[at : at + n]) in known), 0)
        plain = next((n for n in (3, 2) if tuple(tokens[at : at + n]) in PLAIN_PHRASES), 0)
        if plain or length:
            last = " ".join(tokens[at : at + length])
            _take(found, words, article, before_known=last)
            words, article, is_open = [], None, False
            at += plain or length
            continue
        is_number = token in NUMBERS or token in MANY or token.isdecimal()
        if token in _ARTICLES or (is_number and not words):
            _take(found, words, article)
            words, article, is_open = [], token, True
        elif token in FUNCTION_WORDS or token in _ENDS or token in NEGATIONS:
            _take(found, words, article)
            words, article, is_open = [], None, True
        elif is_open:
            words.append(token)
        elif token.endswith("ing") and last:
            found.actions.setdefault(last, token)
        elif token not in PLAIN_WORDS and token not in COLOURS:
            found.unread.append(token)  # after a known thing: a verb
        at += 1
    _take(found, words, article)
    return found


def _take(found: _Phrases, words: list[str], article: str | None, *, before_known: str = "") -> None:
    """Note one phrase: its noun, its visible attributes, and the verb after it.

    Args:
        found: The phrases so far.
        words: Words of the phrase.
        article: Article or number that begins it.
        before_known: The known thing that follows at once; then the words are its adjectives.
    """
    words = [word for word in words if word not in _STYLE_ADJECTIVES]
    if not words or (words[-1] in _STYLE_HEADS and not before_known):
        return
    if before_known:
        found.attributes[before_known] = [word for word in words if _is_attribute(word)]
        return
    start = next((i for i, word in enumerate(words) if word not in COLOURS and word not in PLAIN_WORDS), len(words))
    if start == len(words) and article is not None and words[-1] in _PLAIN_NOUNS:
        start -= 1
    nouns, verb = words[start:], ""
    if len(nouns) > 1 and _is_verb(nouns[-1], article):
        verb = nouns.pop()
    if len(nouns) > (_MAX_PHRASE_WORDS if article is not None else _MAX_BARE_WORDS):
        found.unread += nouns  # not a noun phrase, or not English
    if not 1 <= len(nouns) <= _MAX_PHRASE_WORDS:
        return
    phrase = " ".join(nouns)
    is_counted = article in NUMBERS or article in MANY or (article or "").isdecimal()
    is_single = article in ("a", "an", "another", "each") or nouns[-1] in found.names
    found.known.setdefault(
        tuple(nouns), CaptionWord(phrase, is_counted or (_is_plural(nouns[-1]) and not is_single), None)
    )
    found.attributes.setdefault(phrase, [word for word in words[:start] if word in _VISIBLE])
    if article is None:
        found.bare.add(phrase)
    if verb.endswith("ing"):
        found.actions.setdefault(phrase, verb)
    elif verb and verb not in PLAIN_WORDS:
        found.unread.append(verb)


def _is_attribute(word: str) -> bool:
    return word in _VISIBLE or (word not in PLAIN_WORDS and word not in COLOURS and not word.endswith("ing"))


def _is_verb(word: str, article: str | None) -> bool:
    if word in _NOUNS:
        return False
    is_singular = article in ("a", "an", "another", "each")
    return word.endswith(("ing", "ed")) or (is_singular and _is_plural(word))


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _NOUNS


def _atoms(found: list[FoundWord], phrases: _Phrases) -> Iterator[CaptionAtom]:
    before: FoundWord | None = None
    subject = next((each for each in found if not each.word.is_place), None)
    for at, each in enumerate(found):
        if each.word.is_place:
            yield _place(each, subject, phrases)
            before = None
            continue
        thing = _thing(each, phrases)
        needs = (thing.question,)
        yield thing
        if each.number > 1:
            words = f"{_number_before(each)} {each.text}"
            yield CaptionAtom(f"Are there exactly {words} in the picture?", "count", words, needs)
        colour = _colour_before(each)
        if colour is not None and colour not in _name(each).split():
            words = f"{colour} {each.text}"
            yield CaptionAtom(f"{_be(each)} {_definite(each, phrases)} {colour}?", "colour", words, needs)
        for attribute in phrases.attributes.get(each.text, ()):
            words = f"{attribute} {each.text}"
            yield CaptionAtom(f"{_be(each)} {_definite(each, phrases)} {attribute}?", "other", words, needs)
        relation = _relation(before, each, phrases) if before is not None else None
        if relation is not None:
            yield relation
        is_owned = before is not None and each.before.split()[:1] in (["with"], ["wearing"], ["holding"], ["carrying"])
        action = phrases.actions.get(each.text)
        after = found[at + 1] if at + 1 < len(found) else None
        if action is not None and (after is None or _relation(each, after, phrases) is None):
            words = f"{each.text} {action}"
            yield CaptionAtom(f"{_be(each)} {_definite(each, phrases)} {action}?", "other", words, needs)
        before = before if is_owned else each  # in "a knight with a sword on a horse", the knight is on the horse


def _thing(each: FoundWord, phrases: _Phrases) -> CaptionAtom:
    name = _name(each)
    if _is_many(each):
        return CaptionAtom(f"Are there {each.text} in the picture?", "thing", each.text)
    if name in phrases.names:
        return CaptionAtom(f"Does the picture show {name.capitalize()}?", "thing", each.text)
    be = "Are" if _is_plural(name) else "Is"
    return CaptionAtom(f"{be} there {_with_article(each, phrases)} in the picture?", "thing", each.text)


def _place(each: FoundWord, subject: FoundWord | None, phrases: _Phrases) -> CaptionAtom:
    """Return the atom of a place, with its preposition: "in the snow"."""
    phrase = each.text
    if phrase.split()[0] not in PLACE_WORDS:
        before = [word for word in each.before.split() if word in PLACE_WORDS]
        phrase = f"{before[-1] if before else 'in'} {phrase if phrase.split()[0] in _ARTICLES else f'the {phrase}'}"
    if subject is None:
        return CaptionAtom(f"Is the scene {phrase}?", "place", each.text)
    be = "Are" if _is_many(subject) or _is_plural(_name(subject)) else "Is"
    question = f"{be} there {_with_article(subject, phrases)} {phrase} in the picture?"
    return CaptionAtom(question, "place", each.text, (_thing(subject, phrases).question,))


def _relation(first: FoundWord, second: FoundWord, phrases: _Phrases) -> CaptionAtom | None:
    """Return the atom of the words between two things, if they state a relation."""
    if first.word.is_place or second.word.is_place:
        return None
    attributes = phrases.attributes.get(second.text, ())
    link = [
        word
        for word in second.before.split()
        if (word not in PLAIN_WORDS or word.endswith("ing")) and word not in COLOURS and word not in attributes
    ]
    link = [word for word in link if word not in NUMBERS and word not in MANY and not word.isdecimal()]
    while link and link[-1] in _ARTICLES:
        link.pop()
    link = [word for word in link if word not in ("a", "an", "is", "are", "while", *_STYLE_ADJECTIVES)]
    if not link or link[0] in _LOOSE_LINKS or (link == ["at"] and second.text in phrases.bare):
        return None
    if len(link) > _MAX_PHRASE_WORDS or not all(word in FUNCTION_WORDS or word.endswith("ing") for word in link):
        return None
    words = " ".join(link)
    question = f"{_be(first)} {_definite(first, phrases)} {words} {_definite(second, phrases)}?"
    needs = (_thing(first, phrases).question, _thing(second, phrases).question)
    return CaptionAtom(question, "relation", f"{first.text} {words} {second.text}", needs)


def _name(each: FoundWord) -> str:
    """Return the name of a thing: the vocabulary's own, unless it says more than the caption or names another thing."""
    own = each.word.name
    return each.text if each.word.is_near or _is_many(each) or each.text in own.split() else own


def _with_article(each: FoundWord, phrases: _Phrases) -> str:
    name = _name(each)
    if _is_many(each) or each.text in phrases.bare or name.split()[-1] in _MASS or _is_plural(name):
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _definite(each: FoundWord, phrases: _Phrases) -> str:
    name = _name(each)
    if name in phrases.names:
        return name.capitalize()
    return name if each.text in phrases.bare and not _is_plural(name) else f"the {name}"


def _be(each: FoundWord) -> str:
    return "Are" if _is_many(each) or _is_plural(_name(each)) else "Is"


def _is_many(each: FoundWord) -> bool:
    return each.word.is_plural or each.number > 1


def _number_before(each: FoundWord) -> str:
    words = each.before.split()
    return next((word for word in reversed(words) if word in NUMBERS or word.isdecimal()), str(each.number))


def _colour_before(each: FoundWord) -> str | None:
    """Return the colour that directly precedes a name, except for adjectives."""
    for word in reversed(each.before.split()):
        if word in COLOURS:
            return word
        if word in FUNCTION_WORDS or word in NUMBERS:
            return None
    return None
