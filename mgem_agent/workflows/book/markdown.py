"""A book as Markdown, with its pictures in a folder next to it.

Whatever has a meaning in Markdown or HTML is escaped, so that a model's text is read as it was written. Seeds
and ids of pictures are not repeated: the files of the pictures bear them.
"""

from __future__ import annotations

import re

from mgem_agent.workflows.book.book import Book, BookPage

__all__ = ["PICTURE_FOLDER", "render_markdown"]

PICTURE_FOLDER = "pictures"
"""Folder of the pictures, next to the Markdown file."""

# What means something anywhere in a line, and what does so at its beginning alone.
ANYWHERE = re.compile(r"([\\`*_\[\]<>&~|$])")
AT_THE_BEGINNING = re.compile(r"^(\s*)([#+=:-]|\d{1,9}(?=[.)]))")
# GitHub and others make links of bare addresses.
ADDRESS = re.compile(r"\b(https?|ftp)(://)|\b(www)(\.)", re.IGNORECASE)


def render_markdown(book: Book) -> str:
    """Return a book as Markdown.

    Its pictures are named `pictures/ID.png`; who writes the file puts them there.
    """
    words = book.words
    blocks = [f"# {_escaped(book.title)}"]
    if book.cover is not None:
        blocks.append(_image(book.cover.id, book.cover.alt))
    for page in book.pages:
        blocks += _page(page, book)
    blocks.append("---")
    if not book.is_complete:
        blocks.append(f"*{_escaped(words.unfinished)}*")
    blocks.append(f"**{_escaped(words.about)}**")
    blocks.append("  \n".join(_escaped(fact) for fact in book.facts))
    blocks.append(f"{_escaped(words.replay)} `{book.command}`")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _page(page: BookPage, book: Book) -> list[str]:
    """The blocks of a page."""
    heading = f"{page.number}. {page.title}" if page.title else str(page.number)
    blocks = [f"## {_escaped(heading)}"]
    if page.picture is not None:
        blocks.append(_image(page.picture.id, page.picture.alt))
    else:
        said = (f"*{_escaped(book.words.missing)}*", _escaped(page.caption), _escaped(page.problem))
        blocks.append("\n>\n".join(f"> {line}" for line in said if line))
    blocks += map(_escaped, page.paragraphs)
    if not page.paragraphs:
        blocks.append(f"*{_escaped(book.words.untold)}*")
    return blocks


def _image(picture_id: str, alt: str) -> str:
    return f"![{_escaped(alt)}]({PICTURE_FOLDER}/{picture_id}.png)"


def _escaped(text: str) -> str:
    """One line of text whose every sign means itself."""
    line = ANYWHERE.sub(r"\\\1", " ".join(text.split()))
    line = ADDRESS.sub(lambda found: "".join((found[1] or found[3], "\\", (found[2] or found[4]))), line)
    return AT_THE_BEGINNING.sub(lambda found: _at_the_beginning(found), line)


def _at_the_beginning(found: re.Match[str]) -> str:
    """Escape the sign itself, or what follows a number."""
    sign = found[2]
    return f"{found[1]}{sign}\\" if sign.isdigit() else f"{found[1]}\\{sign}"
