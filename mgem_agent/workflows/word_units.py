"""Words of a text in any script, for counting and cutting.

Most scripts put blanks between words. Chinese, Japanese, Thai and others put none: there a letter with its marks (a
grapheme) is the unit, which is close enough for limits and leaves every letter whole. Where words begin and end in such
scripts only a dictionary knows, so a name is found there wherever its letters are.
"""

from __future__ import annotations

import math

import regex

__all__ = [
    "CLAUSE_MARKS",
    "END_MARKS",
    "cut_text",
    "estimate_words",
    "is_named",
    "num_units",
    "split_sentences",
    "text_units",
    "unit_ends",
]

LETTERS_A_WORD = 3
"""Letters that a word has where no blanks are written, about: two in Chinese, more in Japanese and Thai."""
CLAUSE_MARKS = ",;:，；：、､"
"""Marks within a sentence, after which it may be cut well."""
END_MARKS = CLAUSE_MARKS + ".。｡"
"""Marks that are left out at the end of a text that others follow."""

UNSPACED_SCRIPTS = "Han Hiragana Katakana Bopomofo Yi Thai Lao Khmer Myanmar Tibetan Javanese Balinese".split()
UNSPACED = "[[" + "".join(rf"\p{{{script}}}" for script in UNSPACED_SCRIPTS) + r"ー々]&&\p{L}]"
# Korean parts words by blanks, but a particle follows a name without one.
UNBOUND = rf"[{UNSPACED}\p{{Hangul}}]"
# Thai and Lao write some vowels before their letter. Signs that follow a letter stay with it.
UNIT = regex.compile(rf"(?V1)[เ-ไເ-ໄ]?(?={UNSPACED})\X(?:(?!{UNSPACED})[^\s\w])*|(?:(?!{UNSPACED})\S)+")
GRAPHEME = regex.compile(r"\X")
UNSPACED_LETTER = regex.compile(rf"(?V1)[เ-ไເ-ໄ]?{UNSPACED}")
LETTER = regex.compile(r"\w")

# What closes a quotation that ends with a sentence. Some languages close with a mark that others open with.
CLOSED = r"(?:[\p{Pe}\p{Pf}\"']|\p{Pi}(?=\s|$))"
WIDE_STOP = "。！？｡"
SENTENCE_END = regex.compile(
    rf"(?V1)(?<=\p{{STerm}}{CLOSED}*)\s+|(?<=[{WIDE_STOP}]{CLOSED}*)(?!{CLOSED}|\p{{STerm}}|…|\s|$)"
)


def text_units(text: str) -> list[str]:
    """Return the words of a text and, where its script has no blanks between words, its letters; with their signs.

    Examples:
        >>> text_units("Pip 走进森林。")
        ['Pip', '走', '进', '森', '林。']
    """
    return UNIT.findall(text)


def unit_ends(text: str) -> list[int]:
    """Return where the units of a text end, as places in it."""
    return [match.end() for match in UNIT.finditer(text)]


def num_units(text: str) -> int:
    """Return how many words a text has; where its script has no blanks, how many letters."""
    return sum(1 for unit in text_units(text) if LETTER.search(unit))


def estimate_words(text: str) -> int:
    """Return about how many words a text has, in any script."""
    letters = sum(1 for unit in text_units(text) if UNSPACED_LETTER.match(unit))
    return num_units(text) - letters + math.ceil(letters / LETTERS_A_WORD)


def cut_text(text: str, max_chars: int) -> str:
    """Cut a text to a number of characters: after a word or, where its script has no blanks, after a letter.

    A word that is longer than that is cut between letters; only a single letter that is longer is left whole.
    """
    if len(text) <= max_chars:
        return text
    graphemes = [match.end() for match in GRAPHEME.finditer(text)]
    fitting = [end for end in unit_ends(text) if end <= max_chars] or [end for end in graphemes if end <= max_chars]
    return text[: (fitting or graphemes[:1])[-1]]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, each with the quotation marks that close it; blanks around them are left out."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]


def is_named(name: str, text: str) -> bool:
    """Whether a name is in a text, as a whole word where its script parts words; the case of letters does not count.

    Examples:
        >>> is_named("Pip", "the pipe"), is_named("小红", "小红走进森林"), is_named("민수", "민수가 달린다")
        (False, True, True)
    """
    name, text = name.casefold(), text.casefold()
    if not name.strip():
        return False
    bound = rf"[\w--{UNBOUND}]"
    before = "" if regex.match(rf"(?V1){UNBOUND}", name) else rf"(?<!{bound})"
    after = r"(?!\p{M})" if regex.search(rf"(?V1){UNBOUND}\p{{M}}*$", name) else rf"(?!{bound})"
    return regex.search(rf"(?V1){before}{regex.escape(name)}{after}", text) is not None
