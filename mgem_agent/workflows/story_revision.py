"""Change one page of a story after it was written: its words by hand or by the reasoner, and its picture.

Nothing is lost: an earlier picture stays in the store and in the page's record, and can be chosen again. A page whose
new picture fails keeps the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mgem_agent.agent.events import AgentNotice
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.workflows.story import Story, StoryScene
from mgem_agent.workflows.story_events import SceneWritten, StoryEvent, StoryFinished
from mgem_agent.workflows.story_pages import caption_fields, rewrite_text
from mgem_agent.workflows.story_pictures import StoryPictures
from mgem_agent.workflows.story_recipe import Caption, Line, Paragraphs
from mgem_agent.workflows.story_writer import StoryWriter

__all__ = ["PageRevision", "check_revision", "revise_page"]

PICTURE_FIELDS = ("status", "artifact_id", "request", "executed", "generator", "model", "notices", "message", "seed")


class PageRevision(BaseModel):
    """A change of one page.

    Attributes:
        index: Number of the page, from 1.
        title: New title; None to keep it.
        text: New text; None to keep it.
        caption: New caption of the picture; None to keep it.
        write: Whether the reasoner writes the text again.
        wish: What the reasoner should change, in the person's words.
        draw: Whether the picture is drawn again.
        seed: Seed of the new picture; None for the story's.
        picture: Id of an earlier picture of this page, to use again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = Field(ge=1)
    title: Line | None = None
    text: Paragraphs | None = None
    caption: Caption | None = None
    write: bool = False
    wish: Line = ""
    draw: bool = False
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    picture: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.write and self.text is not None:
            raise ValueError("text is given, and write asks the reasoner for one. Give one of them.")
        if self.draw and self.picture is not None:
            raise ValueError("picture is given, and draw asks for a new one. Give one of them.")
        if self.text == "" or self.caption == "":
            raise ValueError("The text and the caption of a page cannot be empty. Leave out what should not change.")
        return self


def check_revision(story: Story, revision: PageRevision, store: ArtifactStore) -> None:
    """Check that a story can be changed in this way.

    Raises:
        InputError: If it cannot.
    """
    if revision.index > len(story.scenes) or story.scenes[revision.index - 1].status == "planned":
        written = [str(scene.index) for scene in story.scenes if scene.status != "planned"]
        raise InputError(
            f"Page {revision.index} is not written yet, so it cannot be changed. Written pages: "
            f"{', '.join(written) or 'none'}."
        )
    scene = story.scenes[revision.index - 1]
    if revision.picture is not None:
        if revision.picture not in scene.earlier_ids:
            raise InputError(
                f"{revision.picture!r} is not an earlier picture of page {scene.index}. Earlier pictures: "
                f"{', '.join(scene.earlier_ids) or 'none'}."
            )
        store.path(revision.picture)


def revise_page(
    writer: StoryWriter, pictures: StoryPictures, store: ArtifactStore, revision: PageRevision
) -> Iterator[StoryEvent]:
    """Change a page.

    Args:
        writer: Writes the text.
        pictures: Draws the picture.
        store: The store of the pictures.
        revision: The change, which `check_revision` accepts.

    Yields:
        Events of the writing and drawing; the last is a `StoryFinished`.
    """
    draft, index = writer.draft, revision.index
    edits = {name: value for name in ("title", "text") if (value := getattr(revision, name)) is not None}
    if revision.caption is not None:
        changed = draft.story.scenes[index - 1].model_copy(update={**edits, "caption": revision.caption})
        edits |= caption_fields(draft.story, changed)
    if edits:
        draft.change_scene(index, **edits)
    if revision.write:
        yield from rewrite_text(writer, index, revision.wish)
    if edits or revision.write:
        yield SceneWritten(draft.story.scenes[index - 1])
    if revision.picture is not None:
        draft.change_scene(index, **_chosen(draft.story.scenes[index - 1], revision.picture, store))
    if revision.draw:
        yield from _draw_again(writer, pictures, revision)
    yield StoryFinished(draft.story)


def _draw_again(writer: StoryWriter, pictures: StoryPictures, revision: PageRevision) -> Iterator[StoryEvent]:
    """Draw a page's picture again; keep the old one if that fails or is stopped."""
    draft, index = writer.draft, revision.index
    before = draft.story.scenes[index - 1]
    draft.change_scene(
        index,
        status="written",
        artifact_id=None,
        request=None,
        executed=None,
        seed=revision.seed,
        earlier_ids=_earlier(before),
    )
    try:
        yield from pictures.run([index])
    finally:
        drawn = draft.story.scenes[index - 1].artifact_id
        if drawn is None and before.artifact_id is not None:
            draft.change_scene(index, **{name: getattr(before, name) for name in PICTURE_FIELDS})
        earlier = tuple(
            name for name in draft.story.scenes[index - 1].earlier_ids if name != (drawn or before.artifact_id)
        )
        draft.change_scene(index, earlier_ids=earlier)
    if drawn is None and before.artifact_id is not None:
        yield AgentNotice(f"The new picture of page {index} was not drawn; the page keeps its earlier one.")
    elif drawn == before.artifact_id:
        yield AgentNotice(
            f"The generator drew the same picture for page {index} again. Change its caption or its seed."
        )


def _earlier(scene: StoryScene) -> tuple[str, ...]:
    """Return the earlier pictures of a scene and its current one, without duplicates."""
    current = () if scene.artifact_id is None else (scene.artifact_id,)
    return (*(name for name in scene.earlier_ids if name not in current), *current)


def _chosen(scene: StoryScene, picture: str, store: ArtifactStore) -> dict[str, Any]:
    """Return the fields of a scene that shows an earlier picture again."""
    artifact = store.get(picture)
    fields: dict[str, Any] = {
        "status": "drawn",
        "artifact_id": artifact.id,
        "request": artifact.asked,
        "message": "",
        "notices": tuple(notice.message for notice in artifact.notices),
        "earlier_ids": tuple(name for name in _earlier(scene) if name != artifact.id),
        "seed": artifact.asked.seed if artifact.asked else scene.seed,
    }
    if artifact.recipe is not None:
        recipe = artifact.recipe
        fields |= {"executed": recipe.request, "generator": recipe.generator, "model": recipe.model}
    return fields
