"""A story laid out as a book: title, pages, pictures and a last page that says how it was made.

All three formats are rendered from this record, so they have the same content. An unfinished story makes a book too; a
note marks each missing part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.workflows.book.translations import BookLabels, direction_of, labels_for
from mgem_agent.workflows.story import STORY_FILE, Story, StoryScene
from mgem_agent.workflows.story_text import split_title

__all__ = ["Book", "BookPage", "BookPicture", "make_book"]

REPLAY_COMMAND = f"mgem story replay {STORY_FILE}"
MAX_TITLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class BookPicture:
    """A picture of the book.

    Attributes:
        id: Its id in the store.
        path: Its PNG file.
        width: Width in pixels.
        height: Height in pixels.
        alt: Its alternative text.
    """

    id: str
    path: Path
    width: int
    height: int
    alt: str


@dataclass(frozen=True, slots=True)
class BookPage:
    """A page: a scene of the story.

    Attributes:
        number: Page number, from 1.
        title: Title; may be empty.
        paragraphs: Plain text of the page; empty if it is not written yet.
        picture: Its picture, or None.
        caption: What the picture shows or would show.
        problem: Why the picture failed, if it did.
    """

    number: int
    title: str
    paragraphs: tuple[str, ...]
    picture: BookPicture | None
    caption: str
    problem: str


@dataclass(frozen=True, slots=True)
class Book:
    """A book, ready to be rendered.

    Attributes:
        title: Title; never empty.
        language: Language of the text, as a BCP 47 tag.
        direction: Writing direction of the text.
        kind: Kind of story: a how-to shows its numbers large.
        cover: Picture of the title page, or None: that of the page that the recipe names, else the first with the hero,
            else the first.
        pages: The pages, in order.
        is_complete: Whether the story is finished.
        words: Labels such as "About this book", in its language.
        facts: Lines of the last page.
        details: Further lines, such as the ids of the pictures; collapsed if the format allows it.
        command: The command that redraws every picture.
        year: Year in which the story was started.
    """

    title: str
    language: str
    direction: Literal["ltr", "rtl"]
    kind: str
    cover: BookPicture | None
    pages: tuple[BookPage, ...]
    is_complete: bool
    words: BookLabels
    facts: tuple[str, ...]
    details: tuple[str, ...]
    command: str
    year: int


def make_book(story: Story, store: ArtifactStore, *, scores: bool = False) -> Book:
    """Lay out a story as a book.

    Args:
        story: The story, possibly unfinished.
        store: The store of its pictures; a picture that is no longer there is marked as missing.
        scores: Whether the last page has the scores of the pages.

    Raises:
        ImageError: If the file of a picture is damaged.
    """
    words = labels_for(story.language)
    pages = tuple(_page(scene, store) for scene in story.scenes)
    return Book(
        title=story.title or story.recipe.title or words.untitled,
        language=story.language,
        direction="rtl" if direction_of(story.language) == "rtl" else "ltr",
        kind=story.recipe.kind,
        cover=_cover(story, pages),
        pages=pages,
        is_complete=story.state == "finished",
        words=words,
        facts=(*_facts(story, words), *(_scores(story) if scores else ())),
        details=_details(story, words),
        command=REPLAY_COMMAND,
        year=story.created.year,
    )


def _cover(story: Story, pages: Sequence[BookPage]) -> BookPicture | None:
    """Return the picture of the title page."""
    hero = story.cast[0].name if story.cast else None
    named = [page for page in pages if page.number == story.recipe.cover]
    shows_hero = [
        page for page, scene in zip(pages, story.scenes, strict=True) if hero is not None and hero in scene.characters
    ]
    return next((page.picture for page in (*named, *shows_hero, *pages) if page.picture is not None), None)


def _page(scene: StoryScene, store: ArtifactStore) -> BookPage:
    text = scene.text or ""
    caption = scene.caption or scene.summary
    picture, problem = None, scene.message
    if scene.artifact_id is not None:
        try:
            artifact = store.get(scene.artifact_id)
        except InputError as error:
            problem = problem or str(error)
        else:
            alt = scene.alt_text or caption or scene.title or artifact.title
            picture = BookPicture(artifact.id, store.path(artifact.id), artifact.width, artifact.height, alt)
    return BookPage(
        number=scene.index,
        title=_page_title(scene.title.strip()),
        paragraphs=tuple(" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()),
        picture=picture,
        caption=caption,
        problem="" if picture else problem,
    )


def _page_title(line: str) -> str:
    """Return the title of a page; of a full outline line (`title: summary`), only the title."""
    if len(line) <= MAX_TITLE_CHARS:
        return line
    return split_title(line)[0]


def _facts(story: Story, words: BookLabels) -> tuple[str, ...]:
    """Return the lines on how the book was made, without empty ones."""
    drawn = [scene for scene in story.scenes if scene.artifact_id is not None]
    models = dict.fromkeys(scene.model for scene in drawn if scene.model)
    generators = dict.fromkeys(scene.generator for scene in drawn if scene.generator) or {story.generator: None}
    by = ", ".join(filter(None, generators))
    if models and list(models) != list(generators):
        by = f"{by} ({', '.join(models)})"
    values = ((words.written_by, story.reasoner), (words.drawn_by, by), (words.style, story.style))
    return tuple(line.format(value) for line, value in values if value)


def _scores(story: Story) -> tuple[str, ...]:
    """Return the scores of the pages, one line each."""
    lines = []
    for scene in story.scenes:
        page = scene.picture_score
        if page is not None and page.score is not None:
            parts = [("caption", page.caption.score), ("style", page.style)]
            parts += [(name, yes) for name, yes in page.cast.items()]
            parts += [(f"likeness of {name}", value) for name, value in page.likeness.items()]
            told = ", ".join(f"{name} {value:.2f}" for name, value in parts if value is not None)
            lines.append(f"{scene.index}: {page.score:.2f} ({told})")
    return tuple(lines)


def _details(story: Story, words: BookLabels) -> tuple[str, ...]:
    """Return the lines that help to find the pictures in the store, without empty ones."""
    drawn = [scene for scene in story.scenes if scene.artifact_id is not None]
    seeds = dict.fromkeys(
        scene.executed.seed for scene in drawn if scene.executed is not None and scene.executed.seed is not None
    )
    values = (
        (words.seed, ", ".join(map(str, seeds))),
        (words.pictures, ", ".join(scene.artifact_id or "" for scene in drawn)),
    )
    return tuple(line.format(value) for line, value in values if value)
