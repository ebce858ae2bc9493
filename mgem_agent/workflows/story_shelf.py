"""The stories of one user: a folder with one folder for each story, which `Storyteller` fills."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from mgem_agent.artifacts.store import ArtifactStore, default_artifact_root
from mgem_agent.errors import InputError
from mgem_agent.workflows.story import STORY_FILE, Story, read_story

__all__ = ["ShelvedStory", "StoryShelf"]

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
MAX_WORDS = 5
MAX_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class ShelvedStory:
    """A story of a shelf.

    Attributes:
        name: Its name: that of its folder.
        folder: Its folder.
        story: Its record.
    """

    name: str
    folder: Path
    story: Story


class StoryShelf:
    """A folder of stories.

    Args:
        root: The folder; created with the first story.

    Examples:
        >>> shelf = StoryShelf("stories")
        >>> shelf.new_name("A mouse opens a shop!").rpartition("-")[0]
        'a-mouse-opens-a-shop'
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @classmethod
    def beside(cls, store: ArtifactStore) -> Self:
        """Return the shelf that belongs to a store: `books` next to the default folder of pictures, or in any other.

        Stories are files of this machine, also if the pictures are at an address.

        Args:
            store: The store of the pictures.
        """
        if store.is_remote:
            return cls(default_artifact_root().parent / "shelves" / store.root.name / "books")
        is_default = store.root == default_artifact_root()
        return cls((store.root.parent if is_default else store.root) / "books")

    def new_name(self, about: str) -> str:
        """Return a free name for a story, made of what it is about and random digits."""
        words = re.findall(r"[a-z0-9]+", about.lower())[:MAX_WORDS] or ["story"]
        return f"{'-'.join(words)[: MAX_NAME_CHARS - 12].strip('-')}-{secrets.token_hex(4)}"

    def folder(self, name: str) -> Path:
        """Return the folder of a story, which need not exist.

        Raises:
            InputError: If it is not the name of a story: small letters, digits and single hyphens.
        """
        if len(name) > MAX_NAME_CHARS or not NAME.fullmatch(name):
            raise InputError(f"{name[:80]!r} is not the name of a story. Choose one of the list of stories.")
        return self.root / name

    def get(self, name: str) -> ShelvedStory:
        """Return a story.

        Raises:
            InputError: If there is none of that name, or its record is damaged.
        """
        folder = self.folder(name)
        if not (folder / STORY_FILE).is_file():
            raise InputError(f"There is no story {name!r}. Choose one of the list of stories.")
        return ShelvedStory(name, folder, read_story(folder))

    def list(self) -> list[ShelvedStory]:
        """Return all stories, most recently changed first. A story whose record is damaged is left out."""
        found: list[ShelvedStory] = []
        for path in self.records():
            try:
                found.append(ShelvedStory(path.parent.name, path.parent, read_story(path.parent)))
            except InputError:
                continue
        return sorted(found, key=_changed, reverse=True)

    def records(self) -> Iterator[Path]:
        """Yield the files with the records of all stories, in no order."""
        return (path for path in self.root.glob(f"*/{STORY_FILE}") if NAME.fullmatch(path.parent.name))


def _changed(shelved: ShelvedStory) -> tuple[datetime, str]:
    return shelved.story.updated, shelved.name
