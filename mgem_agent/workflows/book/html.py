"""A book as one self-contained HTML file, without scripts and without external fonts or pictures.

Its content security policy forbids every request, so that text written by a model cannot load anything.
"""

from __future__ import annotations

import functools
from importlib import resources

import jinja2
from markupsafe import Markup

from mgem_agent.workflows.book.book import Book
from mgem_agent.workflows.book.picture_data import hue_of, page_picture

__all__ = ["render_html"]


def render_html(book: Book) -> str:
    """Return a book as an HTML page that contains its pictures.

    Raises:
        ImageError: If the file of a picture is damaged.
    """
    pictures = {page.number: page_picture(page.picture) for page in book.pages if page.picture is not None}
    return _template().render(
        book=book,
        words=book.words,
        pictures=pictures,
        cover=page_picture(book.cover) if book.cover else None,
        hue=hue_of(book.cover),
        css=Markup(_read("book.css")),
    )


def _read(name: str) -> str:
    return resources.files("mgem_agent.workflows.book").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read("book.html.jinja"))
