"""Reading what a reasoner writes of a story, whatever it makes of the form that it was asked for.

A model of a hundred million parameters numbers its lines or does not, repeats itself, puts stars around words and says
"Here is your outline:" first. Nothing here fails: what cannot be used is left out, and who asked says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from mgem_agent.workflows.story import StoryCharacter

__all__ = [
    "first_sentence",
    "read_cast",
    "read_line",
    "read_looks",
    "read_outline",
    "read_text",
    "shorten",
    "split_heading",
]

MAX_LINE_CHARS = 300
MAX_TEXT_CHARS = 10_000
MAX_LOOKS_CHARS = 600
MAX_NAME_WORDS = 4
MAX_HEADING_WORDS = 9

LABEL = r"(?:scene|step|part|page|chapter|number|no\.?)"
NUMBERED = re.compile(rf"^(?:{LABEL}\s*)?#?(\d{{1,3}})\s*(?:[.):\-–—]+\s*|\s+(?=\w))(.*)$", re.IGNORECASE)
BULLET = re.compile(r"^[-*•–—]\s+")
MARKS = re.compile(r"\*\*|__|^#+\s*|^>\s*|`")
THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?。！？])[\"'”’»)]*\s+|(?<=[。！？])")
LEAD_LABEL = re.compile(
    rf"^(?:{LABEL}\s*\d+|title|caption|picture|image|illustration|text|looks|description)\s*[:.\-–—]+\s*", re.IGNORECASE
)
QUOTES = "\"'“”‘’«»„"


def _lines(said: str) -> Iterator[str]:
    """Lines with something in them, without marks of Markdown and what a model thinks aloud."""
    for line in THOUGHT.sub("", said).splitlines():
        bare = " ".join(MARKS.sub("", line.strip()).split())
        if re.search(r"\w", bare):
            yield bare


def shorten(text: str, max_chars: int) -> str:
    """Cut a text after a word, with a sign that it was."""
    if len(text) <= max_chars:
        return text
    return text[: max_chars - 1].rsplit(None, 1)[0].rstrip(" ,;:") + "…"


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] in QUOTES and text[-1] in QUOTES:
        text = text[1:-1].strip()
    return text


def _is_remark(line: str) -> bool:
    """Whether a line speaks of what follows instead of being it: "Sure! Here is the plan:"."""
    return line.endswith(":") or bool(re.match(r"(?:sure|certainly|of course|okay|here (?:is|are))\b", line, re.I))


def read_outline(said: str, max_lines: int) -> list[str]:
    """Read the lines of an outline.

    Args:
        said: What the reasoner wrote.
        max_lines: Lines that are wanted; more are left out.

    Returns:
        Numbered lines where there are any, else bulleted ones, else lines, or of a tale as many of its sentences; none
        twice.
    """
    lines = list(_lines(said))
    numbered = [match[2] for line in lines if (match := NUMBERED.match(line))]
    bulleted = [BULLET.sub("", line) for line in lines if BULLET.match(line)]
    found = numbered or bulleted or _spread([line for line in lines if not _is_remark(line)], max_lines)
    clean = (shorten(_unquoted(line), MAX_LINE_CHARS) for line in found if len(line.split()) > 1)
    return _once(clean)[:max_lines]


def _spread(lines: Sequence[str], max_lines: int) -> list[str]:
    """Lines as they are or, where they are the paragraphs of a tale, as many of its sentences, evenly apart."""
    parts = [[part.strip() for part in SENTENCE_END.split(line) if part.strip()] for line in lines]
    if all(len(sentences) < 2 for sentences in parts) and len(lines) > 1:
        return list(lines)
    # What does not end like a sentence is a title, or was cut off.
    sentences = [part for each in parts for part in each if part[-1] in ".!?。！？\"'”’»"]
    if len(sentences) <= max_lines:
        return sentences
    return [sentences[place * len(sentences) // max_lines] for place in range(max_lines)]


def _once(lines: Iterable[str]) -> list[str]:
    """Lines without repetition: small models go round in circles."""
    seen: dict[str, str] = {}
    for line in lines:
        seen.setdefault(line.casefold().rstrip("."), line)
    return list(seen.values())


def split_heading(line: str) -> tuple[str, str]:
    """Part a line of an outline into its heading, which may be empty, and what happens."""
    for mark in (": ", " – ", " — ", " - "):
        heading, found, rest = line.partition(mark)
        if found and rest.strip() and len(heading.split()) <= MAX_HEADING_WORDS and not re.search(r"[.!?]", heading):
            return _unquoted(heading), rest.strip()
    return "", line


def read_cast(said: str, max_characters: int) -> list[StoryCharacter]:
    """Read lines of the form `Name: looks`.

    Args:
        said: What the reasoner wrote.
        max_characters: How many are wanted; more are left out.
    """
    found: dict[str, StoryCharacter] = {}
    for line in _lines(said):
        match = NUMBERED.match(line)
        bare = BULLET.sub("", match[2] if match else line)
        name, colon, looks = bare.partition(":")
        name, looks = _unquoted(re.sub(r"\(.*?\)", "", name)), read_looks(looks)
        is_name = 0 < len(name.split()) <= MAX_NAME_WORDS and len(name) <= 60 and not _is_remark(name)
        if colon and is_name and len(looks.split()) > 1 and name.casefold() not in ("name", "example"):
            found.setdefault(name.casefold(), StoryCharacter(name=name, looks=looks))
    return list(found.values())[:max_characters]


def read_looks(said: str) -> str:
    """Read how somebody looks, as one line that may stand in the middle of a caption."""
    return shorten(read_line(said).rstrip(".;, "), MAX_LOOKS_CHARS)


def read_line(said: str) -> str:
    """Read one line, such as a title or a caption: the first that is no remark; empty if there is none."""
    for line in _lines(said):
        bare = _unquoted(LEAD_LABEL.sub("", BULLET.sub("", line)))
        if bare and not _is_remark(line):
            return shorten(bare, MAX_LINE_CHARS)
    return ""


def read_text(said: str, heading: str) -> str:
    """Read the text of a page.

    Args:
        said: What the reasoner wrote.
        heading: Heading of the page, which it may have written again.

    Returns:
        Its paragraphs, parted by empty lines; empty if there are not three words.
    """
    paragraphs: list[str] = []
    for line in _lines(said):
        bare = LEAD_LABEL.sub("", line) if not paragraphs else line
        is_heading = bare.casefold().strip(QUOTES + " .:") == heading.casefold().strip(" .:")
        if bare and not (is_heading or (not paragraphs and _is_remark(line))):
            paragraphs.append(bare)
    if len(paragraphs) > 1 and len(paragraphs[0].split()) <= MAX_HEADING_WORDS and paragraphs[0][-1].isalnum():
        paragraphs = paragraphs[1:]  # a heading of its own invention
    text = _whole_sentences("\n\n".join(_once(paragraphs))[:MAX_TEXT_CHARS].strip())
    return _unquoted(text) if len(text.split()) > 2 else ""


def _whole_sentences(text: str) -> str:
    """A text without the beginning of a sentence at its end, where a model was cut off; verses stay as they are."""
    if not text or not text[-1].isalnum() and text[-1] not in ",;:-–—":
        return text
    ends = list(re.finditer(r"[.!?。！？…][\"'”’»)]*(?=\s)", text))
    return text[: ends[-1].end()] if ends else text


def first_sentence(text: str) -> str:
    """The first sentence of a text, on one line."""
    return shorten(SENTENCE_END.split(" ".join(text.split()))[0], MAX_LINE_CHARS)
