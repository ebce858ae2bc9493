"""The record of a story, finished or not: `story.json` in its folder.

It has everything that a later process needs to resume the story, to make a book, and to redraw every picture from the
request that was executed. Pictures are named by id; the store has their pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import InputError, ToolError
from mgem_agent.redaction import without_secrets
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.user_files import read_user_file
from mgem_agent.workflows.page_score import PageScore
from mgem_agent.workflows.story_recipe import Consistency, StoryRecipe

__all__ = [
    "STORY_FILE",
    "SceneStatus",
    "Story",
    "StoryCharacter",
    "StoryScene",
    "StoryState",
    "read_story",
    "what_failed",
]

MAX_FILE_BYTES = 64_000_000
STORY_FILE = "story.json"
"""Name of the record in the story's folder."""

SceneStatus = Literal["planned", "written", "drawn", "failed"]
"""`planned`: no more than a summary; `written`: text and caption; `drawn`: with its picture; `failed`: without one."""

StoryState = Literal["outlining", "waiting", "refused", "telling", "finished"]
"""`outlining`: outline and cast are being written; `waiting`: a person has to approve them; `refused`: a person has
not; `telling`: scenes are being written or drawn; `finished`: every scene is drawn or has failed."""


class StoryCharacter(BaseModel):
    """A character of the cast.

    Attributes:
        name: Name, as in the text.
        looks: Its appearance, in the same words in every caption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    looks: str = ""


class StoryScene(BaseModel):
    """A scene, possibly unfinished.

    Attributes:
        index: Its number, from 1.
        title: Title of its page; may be empty. Records of earlier versions call it `heading`.
        summary: What happens, in a sentence: its line of the outline.
        text: Text of its page, in the story's language; empty lines separate paragraphs.
        caption: What its picture shows, without looks and style.
        alt_text: Alternative text of the picture, for screen readers.
        characters: Names of the characters in the picture.
        status: Its status.
        artifact_id: Id of its picture in the store.
        request: The request to the generator, with the whole caption.
        executed: The request with the values that were used; the picture can be drawn again from it.
        generator: Name of the generator in the registry.
        model: Name of the model.
        notices: Sentences that name what was changed or left out.
        message: Why there is no picture, and what to do next; empty unless it failed.
        seed: Seed of its picture if it is not the story's; None for the story's.
        score: Score of its picture, if pages are scored.
        attempts: Scores of all pictures that were drawn for this page, in order.
        cost_usd: What its picture cost in US dollars; None if the price is not known.
        earlier_ids: Ids of its earlier pictures, which a revision replaced; oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: Annotated[int, Field(ge=1)]
    title: str = Field(default="", validation_alias=AliasChoices("title", "heading"))
    summary: str = ""
    text: str = ""
    caption: str = ""
    alt_text: str = ""
    characters: tuple[str, ...] = ()
    status: SceneStatus = "planned"
    artifact_id: str | None = None
    request: ImageRequest | None = None
    executed: ImageRequest | None = None
    generator: str = ""
    model: str = ""
    notices: tuple[str, ...] = ()
    message: str = ""
    seed: int | None = None
    score: PageScore | None = None
    attempts: tuple[PageScore, ...] = ()
    cost_usd: float | None = None
    earlier_ids: tuple[str, ...] = ()

    @property
    def picture_score(self) -> PageScore | None:
        """The score of its present picture; None if it is not scored, or a revision has replaced the picture."""
        return self.score if self.score is not None and self.score.artifact_id == self.artifact_id else None


class Story(BaseModel):
    """A story, possibly unfinished.

    Attributes:
        format: Version of this record.
        version: Version of the package that started it.
        session: Id of the story; the reasoner's sessions start with it.
        created: When it was started (UTC).
        updated: When it last changed (UTC).
        state: Its state.
        needs_approval: Whether a person must approve the outline before anything is drawn.
        recipe: Its recipe.
        title: Title of the book.
        language: Language of the text, as a BCP 47 tag.
        style: Style of every picture.
        consistency: How pictures are kept consistent; never `auto`.
        seed: Seed of the pictures; None if the generator takes none.
        cast: The recurring characters.
        scenes: The scenes, in order.
        given_ids: Ids of the recipe's pictures in the store.
        reference_ids: Ids of the reference pictures for all others: those of the recipe, or the first drawn.
        reasoner: Name of the reasoner.
        generator: Name of the generator in the registry.
        notices: Sentences that name what was completed or left out.
        cost: What the story has cost so far: pictures, seconds, tokens, US dollars.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    version: str
    session: str
    created: AwareDatetime
    updated: AwareDatetime
    state: StoryState = "outlining"
    needs_approval: bool = False
    recipe: StoryRecipe
    title: str = ""
    language: str = "en"
    style: str = ""
    consistency: Consistency = "seed+card"
    seed: int | None = None
    cast: tuple[StoryCharacter, ...] = ()
    scenes: tuple[StoryScene, ...] = ()
    given_ids: tuple[str, ...] = ()
    reference_ids: tuple[str, ...] = ()
    reasoner: str = ""
    generator: str = ""
    notices: tuple[str, ...] = ()
    cost: dict[str, float] = Field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every scene has its picture."""
        return self.state == "finished" and all(scene.status == "drawn" for scene in self.scenes)

    @property
    def has_unscored_pages(self) -> bool:
        """Whether the picture of a page has no score."""
        return any(scene.artifact_id is not None and scene.picture_score is None for scene in self.scenes)

    @property
    def failed_scenes(self) -> tuple[StoryScene, ...]:
        """Scenes whose picture failed. Resuming the story draws them again."""
        return tuple(scene for scene in self.scenes if scene.status == "failed")

    def write(self, folder: Path) -> None:
        """Write the record to the story's folder, atomically.

        Raises:
            ToolError: If the disk is full or the folder is not writable; the earlier record is kept.
        """
        write_atomically(folder / STORY_FILE, (without_secrets(self.model_dump_json(indent=2)) + "\n").encode())


def read_story(folder: Path) -> Story:
    """Read the story of a folder.

    Args:
        folder: The story's folder, or the record itself.

    Raises:
        InputError: If there is no record, or it is damaged or of a later version.
    """
    path = folder / STORY_FILE if folder.is_dir() or folder.suffix != ".json" else folder
    try:
        return Story.model_validate_json(read_user_file(path, "The story", max_bytes=MAX_FILE_BYTES))
    except FileNotFoundError as error:
        raise InputError(f"There is no story in {str(folder)!r}. Give the folder of a story.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise InputError(
            f"This version cannot read the story {str(path)!r} ({where}: {first['msg']}). Update mgem-agent, or start "
            f"the story again in another folder."
        ) from error


def what_failed(story: Story) -> ToolError | None:
    """Return the error of a story whose book lacks pages or pictures; None if it is complete.

    Args:
        story: The story, after it was told.
    """
    if story.state != "finished":
        return ToolError(
            "The story stopped before its end, and the book has what is finished. The same command continues it; "
            "at a limit of its budget, give a larger --budget."
        )
    failed = story.failed_scenes
    if not failed:
        return None
    return ToolError(
        f"{len(failed)} of {len(story.scenes)} pictures failed; the book says so in their place. The first: "
        f"{failed[0].message} The same command tries them again.",
        retryable=True,
    )
