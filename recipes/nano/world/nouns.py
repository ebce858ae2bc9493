"""English for the names of concepts: articles, plurals, lists."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "counted",
    "is_countable",
    "joined_with_and",
    "number_word",
    "plural",
    "verb_for",
    "with_article",
    "with_capital",
]

_PLURALS = frozenset(
    "grapes cherries berries blueberries bananas pancakes fries chips jeans socks glasses spectacles sunglasses "
    "headphones scissors trousers pins lights".split()
)
"""Last words of names that are already plural."""

_WITHOUT_ARTICLE = frozenset(
    "popcorn sushi cheese corn maize bread coffee chocolate fire lightning bowling broccoli milk tea pasta "
    "blossom saturn earth wine".split()
)
"""Last words of names that are mass nouns or proper names."""

_PROPER = frozenset({"santa claus", "father christmas", "saturn", "earth"})
_IRREGULAR = {"mouse": "mice", "fish": "fish", "sheep": "sheep", "deer": "deer", "leaf": "leaves", "wolf": "wolves"}
_WITH_AN = ("hour", "honest")
_WITH_A = ("unicorn", "ufo", "one", "eu", "uni")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _is_plural(noun: str) -> bool:
    return " of " not in noun and " in " not in noun and noun.split()[-1] in _PLURALS


def _is_stuff(noun: str) -> bool:
    return noun in _PROPER or (" of " not in noun and noun.split()[-1] in _WITHOUT_ARTICLE)


def is_countable(noun: str) -> bool:
    """Return whether a noun is countable: "fox", not "jeans" or "popcorn"."""
    return not _is_plural(noun) and not _is_stuff(noun)


def with_article(noun: str) -> str:
    """Return a noun with "a" or "an", or without an article if it takes none.

    >>> with_article("owl"), with_article("unicorn"), with_article("jeans")
    ('an owl', 'a unicorn', 'jeans')
    """
    if not is_countable(noun):
        return noun
    takes_an = noun.startswith(_WITH_AN) or (noun[0] in "aeiou" and not noun.startswith(_WITH_A))
    return f"{'an' if takes_an else 'a'} {noun}"


def with_capital(words: str) -> str:
    """Return words with a capital first letter; an empty text stays empty.

    >>> with_capital("an owl in the USA")
    'An owl in the USA'
    """
    return words[:1].upper() + words[1:]


def plural(noun: str) -> str:
    """Return the plural of a noun.

    >>> plural("fox"), plural("butterfly"), plural("bunch of grapes"), plural("polar bear")
    ('foxes', 'butterflies', 'bunches of grapes', 'polar bears')
    """
    for joint in (" of ", " in ", " with ", " on "):
        head, found, rest = noun.partition(joint)
        if found:
            return plural(head) + found + rest
    if not is_countable(noun):
        return noun
    *first, last = noun.split()
    return " ".join([*first, _plural_word(last)])


def _plural_word(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("s", "x", "z", "ch", "sh")) or word in ("tomato", "mango", "potato", "volcano"):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def number_word(number: int) -> str:
    """Return a number from 0 to 10 as a word."""
    return _NUMBERS[number]


def counted(noun: str, number: int) -> str:
    """Return a number of things in words: "a fox", "three foxes"."""
    return with_article(noun) if number == 1 else f"{number_word(number)} {plural(noun)}"


def verb_for(noun: str, number: int = 1) -> str:
    """Return "is" or "are"."""
    return "are" if number != 1 or _is_plural(noun) else "is"


def joined_with_and(items: Sequence[str]) -> str:
    """Return items joined by commas and "and".

    >>> joined_with_and(["a fox", "an owl", "a bee"])
    'a fox, an owl and a bee'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
