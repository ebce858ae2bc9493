"""A book as an accessible PDF, typeset by Typst: selectable text, alternative texts, bookmarks.

Decisions that matter:

- Typst gets the story as data, never as source, so that no text can be a command.
- Typst's own fonts are used first (Latin, Greek, Cyrillic, Hebrew), then those of the system. A letter that no font has
  is named in a notice; the book is typeset anyway.
- The same story gives the same file, because the file's date is the story's.
- Small pictures are enlarged smoothly here, because viewers scale them differently.
- Seeds and ids of pictures are in the file's keywords, which are not visible on a page.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import tempfile
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, ToolError
from mgem_agent.workflows.book.book import Book, BookPicture
from mgem_agent.workflows.book.picture_data import SMALL_PX, hue_of

__all__ = ["render_pdf"]

ACCESSIBLE = "ua-1"
"""PDF/UA-1, which a screen reader can follow; it allows no letter without a shape."""

UNDISPLAYABLE = re.compile(r"the text `\"(.*?)\"` could not be displayed")
MAX_NAMED = 12
ENLARGED_PX = 768
"""Pixels of the longer side of a small picture once it is enlarged."""


def render_pdf(book: Book) -> tuple[bytes, tuple[str, ...]]:
    """Return a book as PDF, and notices of what could not be typeset.

    Raises:
        InputError: If a language tag or a picture cannot be used.
        ToolError: If the typesetter fails.
    """
    with tempfile.TemporaryDirectory(prefix="mgem-book-") as name:
        folder = Path(name)
        (folder / "book.typ").write_text(
            resources.files("mgem_agent.workflows.book").joinpath("book.typ").read_text(encoding="utf-8"),
            encoding="utf-8",
        )
        (folder / "book.json").write_text(json.dumps(_data(book, folder)), encoding="utf-8")
        return _compile(book, folder)


def _compile(book: Book, folder: Path) -> tuple[bytes, tuple[str, ...]]:
    """Compile to PDF/UA, which screen readers can read; if letters are missing, to plain PDF."""
    import typst

    def compiled(standards: list[Any]) -> bytes:
        # The warnings are about optional fonts of the template that are not installed.
        data, _ = typst.compile_with_warnings(
            str(folder / "book.typ"),
            root=str(folder),
            format="pdf",
            pdf_standards=standards,
            timestamp=datetime.datetime(book.year, 1, 1, tzinfo=datetime.UTC),
        )
        return bytes(data)

    try:
        return compiled([ACCESSIBLE]), ()
    except typst.TypstError as error:
        missing = list(dict.fromkeys(UNDISPLAYABLE.findall(error.diagnostic)))
        reason = error.message
    try:
        data = compiled([])
    except typst.TypstError as error:
        raise ToolError(f"The PDF cannot be typeset: {error.message}. Write the book as html or md instead.") from error
    if not missing:
        return data, (f"The PDF is not accessible to screen readers: {reason}.",)
    named = " ".join(missing[:MAX_NAMED]) + (" …" if len(missing) > MAX_NAMED else "")
    return data, (
        f"No font has {len(missing)} of the PDF's letters; they are missing: {named}. Install a font that has "
        "them, such as Noto for this script, or print the HTML book from a browser.",
    )


def _data(book: Book, folder: Path) -> dict[str, Any]:
    """Return the data for the template, and write the pictures next to it under generated names."""
    language, _, rest = book.language.lower().partition("-")
    region = next((part for part in rest.split("-") if len(part) == 2), None)
    pages = []
    for page in book.pages:
        entry: dict[str, Any] = {
            "number": str(page.number),
            "title": page.title,
            "paragraphs": page.paragraphs,
            "caption": page.caption,
            "problem": page.problem,
            "picture": None,
        }
        if page.picture is not None:
            entry["picture"] = _picture(page.picture, f"{page.number}.png", folder)
        pages.append(entry)
    return {
        "title": book.title,
        "language": language,
        "region": region,
        "direction": book.direction,
        "kind": book.kind,
        "hue": hue_of(book.cover),
        "cover": _picture(book.cover, "cover.png", folder) if book.cover else None,
        "pages": pages,
        "is_complete": book.is_complete,
        "words": asdict(book.words),
        "facts": book.facts,
        "details": book.details,
        "command": book.command,
        "year": str(book.year),
    }


def _picture(picture: BookPicture, name: str, folder: Path) -> dict[str, Any]:
    """Write a picture next to the template, enlarged if it is small."""
    longer = max(picture.width, picture.height)
    try:
        if longer < SMALL_PX:
            name = f"{name.removesuffix('.png')}.jpg"
            factor = ENLARGED_PX / longer
            size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
            load_image(picture.path).resize(size, Image.Resampling.LANCZOS).save(folder / name, quality=92)
        else:
            shutil.copyfile(picture.path, folder / name)
    except OSError as error:
        raise InputError(f"The picture {str(picture.path)!r} cannot be read: {error.strerror or error}.") from error
    return {"file": name, "alt": picture.alt, "ratio": picture.width / picture.height}
