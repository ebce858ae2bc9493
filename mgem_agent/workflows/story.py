"""A story as it stands, half told or whole: the record that lies in its folder as `story.json`.

It holds all that a later process needs: to go on where an earlier one stopped, to make a book, and to draw every
picture again from the request that was really executed. Pictures are named by id; their pixels are in the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import InputError
from mgem_agent.redaction import without_secrets
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.user_files import read_user_file
from mgem_agent.workflows.story_recipe import Consistency, StoryRecipe

__all__ = ["STORY_FILE", "SceneStatus", "Story", "StoryCharacter", "StoryScene", "StoryState", "read_story"]

MAX_FILE_BYTES = 64_000_000
STORY_FILE = "story.json"
"""Name of the record in the story's folder."""

SceneStatus = Literal["planned", "written", "drawn", "failed"]
"""`planned`: at most a summary; `written`: text and caption; `drawn`: with its picture; `failed`: without it."""

StoryState = Literal["outlining", "waiting", "refused", "telling", "finished"]
"""`outlining`: outline and cast are being written; `waiting`: a person has to approve them; `refused`: a person has
not; `telling`: scenes are being written or drawn; `finished`: every scene is drawn or has failed."""


class StoryCharacter(BaseModel):
    """Somebody of the cast.

    Attributes:
        name: As the text has it.
        looks: What is seen of it, the same words in every caption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    looks: str = ""


class StoryScene(BaseModel):
    """A scene, as far as it is there.

    Attributes:
        index: Its place, from 1.
        title: Of its page; may be empty. Records of earlier versions call it `heading`.
        summary: What happens, in a sentence: its line of the outline.
        text: Text of its page, in the story's language; empty lines part paragraphs.
        caption: What its picture shows, without looks and style.
        alt_text: The picture in words, for those who do not see it.
        characters: Names of those of the cast who are in the picture.
        status: How far it is.
        artifact_id: Its picture in the store.
        request: What was asked of the generator, with the whole caption.
        executed: What was really done, every value filled in; the picture can be drawn again from it.
        generator: Name of the generator that drew it, as the registry knows it.
        model: The model that drew it.
        notices: What was not honoured as asked, in sentences.
        message: Why there is no picture, and what to do next; empty unless it has failed.
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


class Story(BaseModel):
    """A story, as far as it is told.

    Attributes:
        format: Version of this record.
        version: Of the package that began it.
        session: Its id; the reasoner's turns bear it.
        created: When it was begun (UTC).
        updated: When it last changed (UTC).
        state: How far it is.
        needs_approval: Whether a person approves the outline before anything is drawn.
        recipe: What it is to be.
        title: Of the book.
        language: Of the text, as a BCP 47 tag.
        style: Of every picture.
        consistency: How pictures are kept alike; never `auto`.
        seed: Of the pictures; None where the generator takes none.
        cast: Who comes back.
        scenes: In order.
        given_ids: Pictures of the recipe, in the store.
        reference_ids: Pictures that the others are drawn to look like: those of the recipe, or the first drawn.
        reasoner: Name of what wrote it.
        generator: Name of what draws it, as the registry knows it.
        notices: What had to be completed or left out, in sentences.
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

    @property
    def is_whole(self) -> bool:
        """Whether every scene has its picture."""
        return self.state == "finished" and all(scene.status == "drawn" for scene in self.scenes)

    @property
    def failed_scenes(self) -> tuple[StoryScene, ...]:
        """Scenes whose picture failed; resuming the story draws them."""
        return tuple(scene for scene in self.scenes if scene.status == "failed")

    def write(self, folder: Path) -> None:
        """Put the record into the story's folder, whole or not at all.

        Raises:
            ToolError: If the disk is full or the folder may not be written; the earlier record stands.
        """
        write_atomically(folder / STORY_FILE, (without_secrets(self.model_dump_json(indent=2)) + "\n").encode())


def read_story(folder: Path) -> Story:
    """Read the story of a folder.

    Args:
        folder: The story's folder, or the record itself.

    Raises:
        InputError: If there is none, or it is damaged or of a later version.
    """
    path = folder / STORY_FILE if folder.is_dir() or folder.suffix != ".json" else folder
    try:
        return Story.model_validate_json(read_user_file(path, "The story", max_bytes=MAX_FILE_BYTES))
    except FileNotFoundError as error:
        raise InputError(f"There is no story in {str(folder)!r}. Tell one there, or give its folder.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise InputError(
            f"The story {str(path)!r} is not what this version writes ({where}: {first['msg']}). Update mgem-agent, or "
            f"tell it anew in another folder."
        ) from error
