"""A book as Markdown, with its pictures in a folder next to it.

Characters with a meaning in Markdown or HTML are escaped, so that a model's text is shown literally. Seeds and ids of
pictures are left out, because the names and the metadata of the picture files contain them.
"""

from __future__ import annotations

import re

from mgem_agent.workflows.book.book import Book, BookPage

__all__ = ["PICTURE_FOLDER", "render_markdown"]

PICTURE_FOLDER = "pictures"
"""Folder of the pictures, next to the Markdown file."""

# Characters that are special anywhere in a line, and those that are special only at its beginning.
ANYWHERE = re.compile(r"([\\`*_\[\]<>&~|$])")
AT_THE_BEGINNING = re.compile(r"^(\s*)([#+=:-]|\d{1,9}(?=[.)]))")
# GitHub and others turn bare URLs into links.
ADDRESS = re.compile(r"\b(https?|ftp)(://)|\b(www)(\.)", re.IGNORECASE)


def render_markdown(book: Book) -> str:
    """Return a book as Markdown.

    Pictures are linked as `pictures/ID.png`; the caller writes them there.
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
    """Return the blocks of a page."""
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
    """Return text on one line, with every special character escaped."""
    line = ANYWHERE.sub(r"\\\1", " ".join(text.split()))
    line = ADDRESS.sub(lambda found: "".join((found[1] or found[3], "\\", (found[2] or found[4]))), line)
    return AT_THE_BEGINNING.sub(lambda found: _at_the_beginning(found), line)


def _at_the_beginning(found: re.Match[str]) -> str:
    """Escape the character, or the one after a number."""
    sign = found[2]
    return f"{found[1]}{sign}\\" if sign.isdigit() else f"{found[1]}\\{sign}"
