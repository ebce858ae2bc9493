"""The folder of a story: one process at a time in it, and its record written after every step.

What is done is in the record before the next step begins. A picture is in the store before it is in the record; one
that a kill caught in between is found again by the request that it was drawn for, and is not drawn twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mgem_agent.agent.events import AgentNotice
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.drawn_call import call_key
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, ToolError
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.workflows.story import Story, StoryScene

__all__ = ["StoryDraft", "find_drawn", "hold_folder", "scene_key"]

LOCK_FILE = ".story.lock"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep every other process, and every other story of this one, off a folder.

    The lock is the operating system's: it goes when its holder goes, however that dies.

    Raises:
        InputError: If it is held.
        ToolError: If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"The folder {str(folder)!r} cannot be made: {error.strerror or error}. Give one that may be written."
        ) from error
    # A generator may be closed by another thread than the one that began it.
    lock = FileLock(folder / LOCK_FILE, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"The story in {str(folder)!r} is being told by another process. Wait until it is done, or take another "
            f"folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


class StoryDraft:
    """A story that changes, and whose record follows each change.

    Args:
        folder: Where its record lies.
        story: As it stands.
    """

    def __init__(self, folder: Path, story: Story) -> None:
        self.folder = folder
        self.story = story

    def change(self, **fields: Any) -> None:
        """Set fields of the story, and write it.

        Raises:
            ToolError: If it cannot be written; the earlier record stands.
        """
        self.story = self.story.model_copy(update={**fields, "updated": datetime.now(UTC)})
        self.story.write(self.folder)

    def change_scene(self, index: int, **fields: Any) -> StoryScene:
        """Set fields of a scene, write the story, and return the scene."""
        return self.change_scenes({index: fields})[0]

    def change_scenes(self, changes: dict[int, dict[str, Any]]) -> list[StoryScene]:
        """Set fields of scenes by their places, write the story once, and return those scenes."""
        scenes = tuple(
            scene.model_copy(update=changes[scene.index]) if scene.index in changes else scene
            for scene in self.story.scenes
        )
        self.change(scenes=scenes)
        return [scene for scene in scenes if scene.index in changes]

    def notice(self, message: str) -> AgentNotice:
        """Note what had to be done otherwise than a person may expect, and return the event that says so."""
        if message not in self.story.notices:
            self.change(notices=(*self.story.notices, message))
        return AgentNotice(message)


def find_drawn(store: ArtifactStore, story: Story, requests: Mapping[int, ImageRequest]) -> dict[int, Artifact]:
    """Find pictures that were drawn for a story and are not in its record.

    Args:
        store: Where pictures are kept.
        story: The story.
        requests: What would be drawn, by the scene's place.

    Returns:
        By the scene's place, the picture that the story's generator has drawn for that request.
    """
    keys = {index: scene_key(story, index, request) for index, request in requests.items()}
    calls = {keys[index]: request for index, request in requests.items()}
    found = store.find_drawn(calls, generator=story.generator) if calls else {}
    return {index: found[key] for index, key in keys.items() if key in found}


def scene_key(story: Story, index: int, request: ImageRequest) -> str:
    """Return the key of the call that draws a scene."""
    return call_key(story.session, str(index), request)
