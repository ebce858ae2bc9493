"""Pictures, their lineage and books as resources: `mgem://pictures/{id}`, `mgem://books/{id}` and below."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from mcp.types import BlobResourceContents, Resource, ResourceTemplate, TextResourceContents

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.mcp.book_answer import BOOKS, book_uri
from mgem_agent.mcp.books import Book
from mgem_agent.mcp.parts import McpParts
from mgem_agent.mcp.pictures import PICTURES, picture_uri, shortened
from mgem_agent.mcp.record_tools import lineage_of
from mgem_agent.redaction import without_secrets
from mgem_agent.workflows.story import Story

__all__ = ["TEMPLATES", "ReadResource", "list_resources", "read_resource"]

PAGE_SIZE = 100
PICTURE_OF_BOOK = re.compile(r"\]\(pictures/(img-[0-9a-f]+)\.png\)")
PICTURE_TTL_MS = 24 * 3600 * 1000

TEMPLATES = (
    ResourceTemplate(
        uri_template=PICTURES + "{id}", name="picture", description="A picture, as PNG.", mime_type="image/png"
    ),
    ResourceTemplate(
        uri_template=PICTURES + "{id}/lineage",
        name="lineage",
        description="A picture and all that it was made from.",
        mime_type="application/json",
    ),
    ResourceTemplate(
        uri_template=BOOKS + "{id}",
        name="book",
        description="A book as Markdown; its pictures are links to resources.",
        mime_type="text/markdown",
    ),
    ResourceTemplate(
        uri_template=BOOKS + "{id}/book.html",
        name="book-html",
        description="A book as one HTML page, with its pictures.",
        mime_type="text/html",
    ),
    ResourceTemplate(
        uri_template=BOOKS + "{id}/story.json",
        name="story",
        description="The record of a book's story.",
        mime_type="application/json",
    ),
)


@dataclass(frozen=True, slots=True)
class ReadResource:
    """The content of a resource.

    Attributes:
        content: As the protocol has it.
        ttl_ms: How long it stays as it is, in milliseconds; a picture never changes.
    """

    content: TextResourceContents | BlobResourceContents
    ttl_ms: int = 0


def list_resources(parts: McpParts, cursor: str | None) -> tuple[list[Resource], str | None]:
    """Return a page of the books and pictures, newest first.

    Args:
        parts: The parts of the server.
        cursor: Where the page begins; None for the first.

    Returns:
        The page, and where the next one begins; None if it is the last.

    Raises:
        InputError: If the cursor is not from an earlier page.
    """
    start = 0
    if cursor is not None:
        if not cursor.isdecimal() or len(cursor) > 12:
            raise InputError(f"The cursor {cursor[:80]!r} is not from an earlier page. Start again without one.")
        start = int(cursor)
    books = parts.books.list()
    end = start + PAGE_SIZE
    pictures = parts.store.list(max(0, end + 1 - len(books)))
    all_of_it = [*map(_book_resource, books), *map(_picture_resource, pictures)]
    return all_of_it[start:end], str(end) if len(all_of_it) > end else None


def _picture_resource(artifact: Artifact) -> Resource:
    return Resource(
        uri=picture_uri(artifact.id),
        name=f"{artifact.id}.png",
        title=shortened(artifact.title, 80),
        mime_type="image/png",
    )


def _book_resource(book: Book) -> Resource:
    return Resource(
        uri=book_uri(book.id), name=f"{book.id}.md", title=shortened(book.title, 80), mime_type="text/markdown"
    )


def read_resource(uri: str, parts: McpParts) -> ReadResource:
    """Return the content of a resource.

    Args:
        uri: Its address.
        parts: The parts of the server.

    Raises:
        InputError: If there is no such resource.
        ImageError: If the file of a picture is damaged.
    """
    for prefix, readers in READERS.items():
        name, slash, rest = uri.removeprefix(prefix).partition("/")
        if uri.startswith(prefix) and slash + rest in readers:
            return readers[slash + rest](uri, name, parts)
    known = ", ".join(template.uri_template for template in TEMPLATES)
    raise InputError(f"There is no resource {uri[:200]!r}. Known: {known}.")


def _picture(uri: str, name: str, parts: McpParts) -> ReadResource:
    data = base64.b64encode(parts.store.path(_picture_id(name, parts.store)).read_bytes()).decode("ascii")
    return ReadResource(BlobResourceContents(uri=uri, mime_type="image/png", blob=data), PICTURE_TTL_MS)


def _lineage(uri: str, name: str, parts: McpParts) -> ReadResource:
    facts = lineage_of(_picture_id(name, parts.store), parts.store)
    text = facts.model_dump_json(indent=2, exclude_none=True)
    return ReadResource(TextResourceContents(uri=uri, mime_type="application/json", text=text))


def _picture_id(name: str, store: ArtifactStore) -> str:
    return store.get(name).id


def _markdown(uri: str, name: str, parts: McpParts) -> ReadResource:
    from mgem_agent.workflows.book import make_book, render_markdown

    text = render_markdown(make_book(_story(name, parts), parts.store))
    text = PICTURE_OF_BOOK.sub(lambda found: f"]({picture_uri(found[1])})", text)
    return ReadResource(TextResourceContents(uri=uri, mime_type="text/markdown", text=text))


def _html(uri: str, name: str, parts: McpParts) -> ReadResource:
    from mgem_agent.workflows.book import make_book, render_html

    text = render_html(make_book(_story(name, parts), parts.store))
    return ReadResource(TextResourceContents(uri=uri, mime_type="text/html", text=text))


def _json(uri: str, name: str, parts: McpParts) -> ReadResource:
    text = without_secrets(_story(name, parts).model_dump_json(indent=2))
    return ReadResource(TextResourceContents(uri=uri, mime_type="application/json", text=text))


def _story(name: str, parts: McpParts) -> Story:
    story = parts.books.get(name).story
    if story is None:
        raise InputError(f"The book {name!r} has not begun. Continue it: story_continue.")
    return story


Reader = Callable[[str, str, McpParts], ReadResource]

READERS: dict[str, dict[str, Reader]] = {
    PICTURES: {"": _picture, "/lineage": _lineage},
    BOOKS: {"": _markdown, "/book.html": _html, "/story.json": _json},
}
"""Reads a resource, by the beginning and the end of its address."""
