"""Which pictures an outer model may name: what a tool of ours opens for it, and what it refuses.

An outer model writes what users and web pages tell it to. It may always name stored pictures by id and give pixels as
data URLs or image blocks; files of this machine are open only in folders that the developer names, links followed, and
a file that may not be read is refused by the same words whether it exists or not. Nothing is ever fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mgem_agent.agent.messages import store_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError

__all__ = ["AllowPaths", "PictureAccess"]

AllowPaths = bool | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Local files that may be named: none (False), any (True), or those in a folder or in several."""

_NO_PATH = re.compile(r"img-|data:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PictureAccess:
    """What may be opened.

    Attributes:
        folders: Folders whose files may be read, resolved; None for any file.
    """

    folders: tuple[Path, ...] | None = ()

    @classmethod
    def of(cls, allow_paths: AllowPaths) -> Self:
        """Read a switch.

        Args:
            allow_paths: Which local files may be named.

        Raises:
            InputError: If it names what is no folder.
        """
        if isinstance(allow_paths, bool):
            return cls(None if allow_paths else ())
        named = [allow_paths] if isinstance(allow_paths, (str, os.PathLike)) else list(allow_paths)
        folders = [Path(name).expanduser() for name in named]
        for folder in folders:
            if not folder.is_dir():
                raise InputError(
                    f"allow_paths names {str(folder)!r}, which is no folder. Give a folder, several, True for any file "
                    "or False for none."
                )
        return cls(tuple(folder.resolve() for folder in folders))

    def store(self, image: Any, store: ArtifactStore) -> str:
        """Store a picture that an outer model names, and return its id.

        Args:
            image: An id, a data URL, an image block, or a path; a relative one is looked for in the allowed folders.
            store: Where pictures are kept.

        Raises:
            InputError: If it may not be read, an id is unknown, or a block holds no picture.
            ImageError: If it is no picture.
        """
        named = _address(image)
        if self.folders is None or not isinstance(named, str) or _NO_PATH.match(named):
            return store_picture(image, store)
        return store_picture(str(self._file(named, self.folders)), store)

    def _file(self, name: str, folders: Sequence[Path]) -> Path:
        found = []
        for folder in folders:
            try:
                path = (folder / name).resolve()
            except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
                continue
            if path.is_relative_to(folder):
                found.append(path)
        if not found:
            files = f", and files in {', '.join(repr(str(folder)) for folder in folders)}" if folders else ""
            raise InputError(
                f"The file {name[:200]!r} may not be read here. Allowed: ids of stored pictures (img-…), data URLs and "
                f"image blocks{files}. Files are opened by the developer's switch allow_paths."
            )
        return next((path for path in found if os.path.isfile(path)), found[0])


def _address(image: Any) -> Any:
    """What an image is named by: the string itself, or the address in a block that holds no pixels and no id."""
    if not isinstance(image, Mapping):
        return image
    if image.get("type") == "image_url":
        address = image.get("image_url")
        return address.get("url") if isinstance(address, Mapping) else address
    if image.get("file_id") or image.get("base64") or image.get("source_type") == "base64":
        return None
    return image.get("url")
