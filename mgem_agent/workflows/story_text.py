"""Read what a reasoner writes for a story, even if it does not follow the requested format.

A model with a hundred million parameters may or may not number its lines, repeats itself, puts stars around words and
starts with "Here is your outline:". Nothing here raises an error: unusable text is left out, and the caller reports it.
Words are counted and cut in any script; see `mgem_agent.workflows.word_units`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import regex

from mgem_agent.workflows.story import StoryCharacter
from mgem_agent.workflows.word_units import (
    CLAUSE_MARKS,
    END_MARKS,
    cut_text,
    estimate_words,
    num_units,
    split_sentences,
)

__all__ = [
    "first_sentence",
    "read_cast",
    "read_line",
    "read_looks",
    "read_outline",
    "read_text",
    "shorten",
    "split_title",
]

MAX_LINE_CHARS = 300
MAX_TEXT_CHARS = 10_000
MAX_LOOKS_CHARS = 600
MAX_NAME_WORDS = 4
MAX_TITLE_WORDS = 9
NO_NAMES = ("name", "example", "名字", "姓名", "名前", "이름", "ชื่อ")

LABEL = r"(?:scene|step|part|page|chapter|number|no\.?|场景|場景|步骤|步驟|シーン|ステップ|장면|ฉาก(?:ที่)?|ขั้นตอน(?:ที่)?)"
DIGITS = r"(?:\d{1,3}|[一二三四五六七八九十]{1,3})"
COUNTED = rf"第\s*{DIGITS}\s*[幕场場回话話章页頁步部]"
MARK = r"[.):\-–—．）】：、。]"
NUMBERED = re.compile(
    rf"^(?:{COUNTED}\s*{MARK}*|(?:[一二三四五六七八九十]{{1,3}}|[①-⑳])\s*{MARK}*(?<=[、.．:：①-⑳])"
    rf"|(?:{LABEL}\s*)?[#(（【]?\d{{1,3}}\s*(?:{MARK}+\s*|\s+(?=\w)))\s*(.*)$",
    re.IGNORECASE,
)
BULLET = re.compile(r"^(?:[-*•–—]\s+|[・●○◆■]\s*)")
MARKS = re.compile(r"\*\*|__|^#+\s*|^>\s*|`")
THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
COLON = re.compile(r"[:：︰﹕]")
STOP = regex.compile(r"\p{STerm}")
CLOSED = r"[\p{Pe}\p{Pf}\p{Pi}\"']*"
SENTENCE_ENDS = regex.compile(rf"(?:\p{{STerm}}|…){CLOSED}(?=\s|$|(?<=[。！？｡…]{CLOSED}))")
# Thai and Lao write no mark at the end of a sentence.
NO_STOPS = regex.compile(r"[\p{Thai}\p{Lao}]\p{M}*$")
NAMED_LABEL = "title|caption|picture|image|illustration|text|looks|description"
NAMED_LABEL += "|标题|標題|书名|書名|题目|題名|タイトル|제목|ชื่อเรื่อง|图片|圖片|画面|説明|描述|外貌|外見|本文|正文"
LEAD_LABEL = re.compile(rf"^(?:(?:{LABEL}\s*\d+|{COUNTED}|{NAMED_LABEL})\s*[:.\-–—：．、]+\s*)", re.IGNORECASE)
QUOTES = "\"'“”‘’«»„「」『』《》〈〉"


def _lines(said: str) -> Iterator[str]:
    """Return the non-empty lines, without Markdown marks and without the model's thinking."""
    for line in THOUGHT.sub("", said).splitlines():
        bare = " ".join(MARKS.sub("", line.strip()).split())
        if re.search(r"\w", bare):
            yield bare


def shorten(text: str, max_chars: int) -> str:
    """Cut a text after a word, or after a letter if its script has no blanks, and mark the cut."""
    if len(text) <= max_chars:
        return text
    return cut_text(text, max_chars - 1).rstrip(" " + CLAUSE_MARKS) + "…"


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] in QUOTES and text[-1] in QUOTES:
        text = text[1:-1].strip()
    return text


def _is_remark(line: str) -> bool:
    """Whether a line only announces what follows: "Sure! Here is the plan:"."""
    return bool(COLON.match(line[-1:])) or bool(
        re.match(r"(?:sure|certainly|of course|okay|here (?:is|are))\b", line, re.I)
    )


def read_outline(said: str, max_lines: int) -> list[str]:
    """Read the lines of an outline.

    Args:
        said: What the reasoner wrote.
        max_lines: Maximum number of lines; more are left out.

    Returns:
        Numbered lines if there are any, else bulleted ones, else all lines; from running text, as many of its
        sentences. Duplicates are removed.
    """
    lines = list(_lines(said))
    numbered = [match[1] for line in lines if (match := NUMBERED.match(line))]
    bulleted = [BULLET.sub("", line) for line in lines if BULLET.match(line)]
    found = numbered or bulleted or _spread([line for line in lines if not _is_remark(line)], max_lines)
    clean = (shorten(_unquoted(line), MAX_LINE_CHARS) for line in found if num_units(line) > 1)
    return _once(clean)[:max_lines]


def _spread(lines: Sequence[str], max_lines: int) -> list[str]:
    """Return the lines; if they are paragraphs of running text, as many of its sentences, evenly spaced."""
    parts = [line.split() if NO_STOPS.search(line) else split_sentences(line) for line in lines]
    if all(len(sentences) < 2 for sentences in parts) and len(lines) > 1:
        return list(lines)
    # A line that does not end like a sentence is a title or was cut off.
    sentences = [part for each in parts for part in each if _is_sentence(part)]
    if len(sentences) <= max_lines:
        return sentences
    return [sentences[place * len(sentences) // max_lines] for place in range(max_lines)]


def _is_sentence(text: str) -> bool:
    """Whether a text ends as a sentence does in its script."""
    return bool(NO_STOPS.search(text) or SENTENCE_ENDS.fullmatch(text[-1:]) or text[-1] in QUOTES)


def _once(lines: Iterable[str]) -> list[str]:
    """Return the lines without duplicates: small models repeat themselves."""
    seen: dict[str, str] = {}
    for line in lines:
        seen.setdefault(line.casefold().rstrip(".。"), line)
    return list(seen.values())


def split_title(line: str) -> tuple[str, str]:
    """Split a line of an outline into its title, which may be empty, and what happens."""
    for mark in (": ", "：", " – ", " — ", "——", " - "):
        title, found, rest = line.partition(mark)
        if found and rest.strip() and estimate_words(title) <= MAX_TITLE_WORDS and not STOP.search(title):
            return _unquoted(title), rest.strip()
    return "", line


def read_cast(said: str, max_characters: int) -> list[StoryCharacter]:
    """Read lines of the form `Name: looks`.

    Args:
        said: What the reasoner wrote.
        max_characters: Maximum number of characters; more are left out.
    """
    found: dict[str, StoryCharacter] = {}
    for line in _lines(said):
        match = NUMBERED.match(line)
        bare = BULLET.sub("", match[1] if match else line)
        name, *rest = COLON.split(bare, maxsplit=1)
        name, looks = _unquoted(re.sub(r"[(（].*?[)）]", "", name)), read_looks("".join(rest))
        is_name = 0 < estimate_words(name) <= MAX_NAME_WORDS and len(name) <= 60 and not _is_remark(name)
        if is_name and num_units(looks) > 1 and name.casefold() not in NO_NAMES:
            found.setdefault(name.casefold(), StoryCharacter(name=name, looks=looks))
    return list(found.values())[:max_characters]


def read_looks(said: str) -> str:
    """Read the looks of a character as one line, for use within a caption."""
    return shorten(read_line(said).rstrip(" " + END_MARKS), MAX_LOOKS_CHARS)


def read_line(said: str) -> str:
    """Read one line, such as a title or a caption: the first that is not a remark; empty if there is none."""
    for line in _lines(said):
        bare = _unquoted(LEAD_LABEL.sub("", BULLET.sub("", line)))
        if bare and not _is_remark(line):
            return shorten(bare, MAX_LINE_CHARS)
    return ""


def read_text(said: str, title: str) -> str:
    """Read the text of a page.

    Args:
        said: What the reasoner wrote.
        title: Title of the page, which the reasoner may have repeated.

    Returns:
        Its paragraphs, separated by empty lines; empty if there are fewer than three words.
    """
    paragraphs: list[str] = []
    for line in _lines(said):
        bare = LEAD_LABEL.sub("", line) if not paragraphs else line
        is_title = bare.casefold().strip(QUOTES + " .:。：") == title.casefold().strip(" .:。：")
        if bare and not (is_title or (not paragraphs and _is_remark(line))):
            paragraphs.append(bare)
    if len(paragraphs) > 1 and estimate_words(paragraphs[0]) <= MAX_TITLE_WORDS and _ends_open(paragraphs[0]):
        paragraphs = paragraphs[1:]  # a title of its own invention
    text = _whole_sentences(cut_text("\n\n".join(_once(paragraphs)), MAX_TEXT_CHARS).strip())
    return _unquoted(text) if num_units(text) > 2 else ""


def _ends_open(text: str) -> bool:
    """Whether a text ends with a letter although its script ends sentences with a mark."""
    return text[-1].isalnum() and not NO_STOPS.search(text)


def _whole_sentences(text: str) -> str:
    """Remove an incomplete sentence at the end, where the model was cut off; verses are not changed."""
    if not text or not (_ends_open(text) or text[-1] in CLAUSE_MARKS + "-–—"):
        return text
    ends = [match.end() for match in SENTENCE_ENDS.finditer(text) if match.end() < len(text)]
    return text[: ends[-1]] if ends else text


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, on one line."""
    return shorten(next(iter(split_sentences(" ".join(text.split()))), ""), MAX_LINE_CHARS)
