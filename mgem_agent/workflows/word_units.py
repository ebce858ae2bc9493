"""Words of a text in any script, for counting and cutting.

Most scripts put blanks between words. In Chinese, Japanese, Thai and others, which have none, a letter with its marks
(a grapheme) is the unit: it is precise enough for limits and never splits a letter. Only a dictionary could find the
words in such scripts, so a name matches anywhere in the text.
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
"""Approximate letters of a word in scripts without blanks: two in Chinese, more in Japanese and Thai."""
CLAUSE_MARKS = ",;:，；：、､"
"""Marks within a sentence after which it can be cut."""
END_MARKS = CLAUSE_MARKS + ".。｡"
"""Marks that are removed at the end of a text if more text follows."""

UNSPACED_SCRIPTS = "Han Hiragana Katakana Bopomofo Yi Thai Lao Khmer Myanmar Tibetan Javanese Balinese".split()
UNSPACED = "[[" + "".join(rf"\p{{{script}}}" for script in UNSPACED_SCRIPTS) + r"ー々]&&\p{L}]"
# Korean puts blanks between words, but a particle follows a name without one.
UNBOUND = rf"[{UNSPACED}\p{{Hangul}}]"
# Thai and Lao write some vowels before their letter. Signs that follow a letter stay with it.
UNIT = regex.compile(rf"(?V1)[เ-ไເ-ໄ]?(?={UNSPACED})\X(?:(?!{UNSPACED})[^\s\w])*|(?:(?!{UNSPACED})\S)+")
GRAPHEME = regex.compile(r"\X")
UNSPACED_LETTER = regex.compile(rf"(?V1)[เ-ไເ-ໄ]?{UNSPACED}")
LETTER = regex.compile(r"\w")

# Marks that close a quotation at the end of a sentence. Some languages close with a mark that others open with.
CLOSED = r"(?:[\p{Pe}\p{Pf}\"']|\p{Pi}(?=\s|$))"
WIDE_STOP = "。！？｡"
SENTENCE_END = regex.compile(
    rf"(?V1)(?<=\p{{STerm}}{CLOSED}*)\s+|(?<=[{WIDE_STOP}]{CLOSED}*)(?!{CLOSED}|\p{{STerm}}|…|\s|$)"
)


def text_units(text: str) -> list[str]:
    """Return the words of a text, or its letters if its script has no blanks; with their punctuation.

    Examples:
        >>> text_units("Pip 走进森林。")
        ['Pip', '走', '进', '森', '林。']
    """
    return UNIT.findall(text)


def unit_ends(text: str) -> list[int]:
    """Return the index in a text at which each unit ends."""
    return [match.end() for match in UNIT.finditer(text)]


def num_units(text: str) -> int:
    """Count the words of a text, or its letters if its script has no blanks."""
    return sum(1 for unit in text_units(text) if LETTER.search(unit))


def estimate_words(text: str) -> int:
    """Estimate the number of words of a text, in any script."""
    letters = sum(1 for unit in text_units(text) if UNSPACED_LETTER.match(unit))
    return num_units(text) - letters + math.ceil(letters / LETTERS_A_WORD)


def cut_text(text: str, max_chars: int) -> str:
    """Cut a text to a number of characters: after a word, or after a letter if its script has no blanks.

    A longer word is cut between letters; a single letter (grapheme) is never cut.
    """
    if len(text) <= max_chars:
        return text
    graphemes = [match.end() for match in GRAPHEME.finditer(text)]
    fitting = [end for end in unit_ends(text) if end <= max_chars] or [end for end in graphemes if end <= max_chars]
    return text[: (fitting or graphemes[:1])[-1]]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, with closing quotation marks and without surrounding blanks."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]


def is_named(name: str, text: str) -> bool:
    """Whether a text has a name, ignoring case; as a whole word if the script has blanks between words.

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
