"""The folder of a story: used by one process at a time, and its record is written after every step.

A step is in the record before the next one starts. A picture is in the store before it is in the record. If the process
is killed in between, the picture is found again by its request and not drawn twice.
"""

from __future__ import annotations

import threading
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
from mgem_agent.errors import InputError, StorageError
from mgem_agent.tools.budget import Cost, Meter
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.workflows.story import Story, StoryScene

__all__ = ["StoryDraft", "find_drawn", "hold_folder", "scene_key"]

LOCK_FILE = ".story.lock"
END_S = 0.5


@contextmanager
def hold_folder(folder: Path, *, wait_s: float = END_S) -> Iterator[None]:
    """Lock a folder against other processes, and against other stories of this process.

    The operating system releases the lock when its holder ends, also if it is killed.

    Args:
        folder: The folder.
        wait_s: Seconds to wait for a holder that has written its last record and is about to end.

    Raises:
        InputError: If the folder is still locked then.
        StorageError: If the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {str(folder)!r} cannot be created: {error.strerror or error}. Give a writable one.",
            retryable=False,
        ) from error
    # A generator may be closed by another thread than the one that started it.
    lock = FileLock(folder / LOCK_FILE, timeout=wait_s, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"Another process is working on the story in {str(folder)!r}. Wait until it is done, or use another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


class StoryDraft:
    """A story in progress, whose record is written after each change. One thread may write while another draws.

    Args:
        folder: Folder of the record.
        story: The story so far.
        meter: Counts what is spent from now on.
    """

    def __init__(self, folder: Path, story: Story, meter: Meter | None = None) -> None:
        self.folder = folder
        self.story = story
        self.meter = meter if meter is not None else Meter()
        self._cost = Cost.read(story.cost)
        self._lock = threading.RLock()

    def change(self, **fields: Any) -> None:
        """Set fields of the story, and write it.

        Raises:
            StorageError: If it cannot be written; the earlier record is kept.
        """
        with self._lock:
            cost = (self._cost + self.meter.spent).record()
            self.story = self.story.model_copy(update={"cost": cost, **fields, "updated": datetime.now(UTC)})
            self.story.write(self.folder)

    def change_scene(self, index: int, **fields: Any) -> StoryScene:
        """Set fields of a scene, write the story, and return the scene."""
        return self.change_scenes({index: fields})[0]

    def change_scenes(self, changes: dict[int, dict[str, Any]]) -> list[StoryScene]:
        """Set fields of scenes by their numbers, write the story once, and return those scenes."""
        with self._lock:
            scenes = tuple(
                scene.model_copy(update=changes[scene.index]) if scene.index in changes else scene
                for scene in self.story.scenes
            )
            self.change(scenes=scenes)
        return [scene for scene in scenes if scene.index in changes]

    def notice(self, message: str) -> AgentNotice:
        """Record a notice, and return its event."""
        with self._lock:
            if message not in self.story.notices:
                self.change(notices=(*self.story.notices, message))
        return AgentNotice(message)


def find_drawn(store: ArtifactStore, story: Story, requests: Mapping[int, ImageRequest]) -> dict[int, Artifact]:
    """Find pictures that were drawn for a story but are not in its record.

    Args:
        store: The store of the pictures.
        story: The story.
        requests: The requests, by number of the scene.

    Returns:
        The picture that the story's generator drew for each request, by number of the scene.
    """
    keys = {index: scene_key(story, index, request) for index, request in requests.items()}
    calls = {keys[index]: request for index, request in requests.items()}
    found = store.find_drawn(calls, generator=story.generator) if calls else {}
    return {index: found[key] for index, key in keys.items() if key in found}


def scene_key(story: Story, index: int, request: ImageRequest) -> str:
    """Return the key of the call that draws a scene."""
    return call_key(story.session, str(index), request)
