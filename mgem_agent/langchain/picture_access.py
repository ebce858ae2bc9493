"""Which pictures an outer model may name in the tools of this package.

Users and web pages can control what an outer model writes (prompt injection). It may always name stored pictures by id
and give pixels as data URLs or image blocks. It may name local files only in folders that the developer allows; links
are resolved before the check. The message for a refused file does not reveal whether it exists. Nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

from mgem_agent.artifacts.named_picture import resolve_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.encoded_picture import WEB_ADDRESS, read_file
from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

__all__ = ["AllowPaths", "PictureAccess"]

AllowPaths = bool | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Local files that may be named: none (False), any (True), or those in a folder or in several."""


@dataclass(frozen=True, slots=True)
class PictureAccess:
    """The pictures that an outer model may name.

    Attributes:
        folders: Folders whose files may be read, resolved; None for any file.
    """

    folders: tuple[Path, ...] | None = ()

    @classmethod
    def of(cls, allow_paths: AllowPaths) -> Self:
        """Create the access for an `allow_paths` value.

        Args:
            allow_paths: Which local files may be named.

        Raises:
            InputError: If it names something that is not a folder.
        """
        if isinstance(allow_paths, bool):
            return cls(None if allow_paths else ())
        named = [allow_paths] if isinstance(allow_paths, (str, os.PathLike)) else list(allow_paths)
        folders = [user_path(name) for name in named]
        for folder in folders:
            if not folder.is_dir():
                raise InputError(
                    f"allow_paths names {str(folder)!r}, which is not a folder. Give one or more, True for any file "
                    "or False for none."
                )
        return cls(tuple(folder.resolve() for folder in folders))

    def store(self, image: Any, store: ArtifactStore) -> str:
        """Store a picture that an outer model names, and return its id.

        Args:
            image: An id, a data URL, an image block, or a path; a relative one is looked for in the allowed folders.
            store: Where pictures are kept.

        Raises:
            InputError: If it may not be read, an id is unknown, or a block has no picture.
            ImageError: If it is not a picture.
        """
        return resolve_picture(image, allow_ids=True, read_file=self._read).keep(store)

    def _read(self, name: str) -> bytes:
        if self.folders is None or WEB_ADDRESS.match(name):
            return read_file(name)  # this does not open URLs
        found = [path for folder in self.folders if (path := _inside(folder, name)) is not None]
        if not found:
            folders = f", and files in {', '.join(repr(str(each)) for each in self.folders)}" if self.folders else ""
            raise InputError(
                f"The file {name[:200]!r} may not be read here. Allowed: ids of stored pictures (img-…), data URLs and "
                f"image blocks{folders}. The developer's option allow_paths allows files."
            )
        return read_file(next((path for path in found if os.path.isfile(path)), found[0]))


def has_other_root(name: PurePath, folder: PurePath) -> bool:
    """Whether a path has another root than a folder: another drive, or a server on Windows.

    Such a path is refused before it is resolved: Windows would contact the server and send the user's name.

    Args:
        name: The path.
        folder: An absolute path.
    """
    return bool(name.anchor) and name.anchor != name.root and name.anchor.casefold() != folder.anchor.casefold()


def _inside(folder: Path, name: str) -> Path | None:
    """Return the resolved path of a name in a folder; None if it is outside."""
    try:
        if has_other_root(Path(name), folder):
            return None
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, circular links
        return None
    return path if path.is_relative_to(folder) else None
