"""A story as a book: an HTML page, Markdown with a folder of pictures, or PDF; and how to redraw its pictures.

Heavy packages are imported only when a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.workflows.book.book import Book, BookPage, BookPicture, make_book
    from mgem_agent.workflows.book.book_folder import BookFolder, BookFormat
    from mgem_agent.workflows.book.html import render_html
    from mgem_agent.workflows.book.markdown import render_markdown
    from mgem_agent.workflows.book.pdf import render_pdf
    from mgem_agent.workflows.book.replay import ReplayedPicture, recorded_generators, replay_story

__all__ = [
    "Book",
    "BookFolder",
    "BookFormat",
    "BookPage",
    "BookPicture",
    "ReplayedPicture",
    "make_book",
    "recorded_generators",
    "render_html",
    "render_markdown",
    "render_pdf",
    "replay_story",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Book": "mgem_agent.workflows.book.book",
        "BookFolder": "mgem_agent.workflows.book.book_folder",
        "BookFormat": "mgem_agent.workflows.book.book_folder",
        "BookPage": "mgem_agent.workflows.book.book",
        "BookPicture": "mgem_agent.workflows.book.book",
        "ReplayedPicture": "mgem_agent.workflows.book.replay",
        "make_book": "mgem_agent.workflows.book.book",
        "recorded_generators": "mgem_agent.workflows.book.replay",
        "render_html": "mgem_agent.workflows.book.html",
        "render_markdown": "mgem_agent.workflows.book.markdown",
        "render_pdf": "mgem_agent.workflows.book.pdf",
        "replay_story": "mgem_agent.workflows.book.replay",
    },
)
