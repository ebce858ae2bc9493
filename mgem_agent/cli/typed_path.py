"""Read file names as typed, or as pasted by a terminal when a file is dropped: quoted, escaped or as `file://`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from mgem_agent.artifacts import ArtifactStore

__all__ = ["find_picture", "store_typed", "typed_path", "typed_paths"]

SCHEME = "file:"


def typed_path(text: str) -> Path:
    r"""Return the path for typed text: unchanged if that file exists, otherwise without quotes and escapes.

    Args:
        text: The typed or pasted text.

    Raises:
        InputError: If it begins with an unknown home, such as `~nobody`.

    Examples:
        >>> [typed_path(text).as_posix() for text in (r"a\ b.png", "'a b.png'", "file:///tmp/a%20b.png", "it's.png")]
        ['a b.png', 'a b.png', '/tmp/a b.png', "it's.png"]
    """
    text = text.strip()
    if os.path.lexists(text):
        return Path(text)
    words = _words(text)
    return _expanded(words[0] if len(words) == 1 else text)


def typed_paths(text: str) -> list[Path]:
    """Return several paths if each word is a file, otherwise one path.

    Args:
        text: The typed or pasted text.
    """
    path = typed_path(text)
    several = [_expanded(word) for word in _words(text)]
    if len(several) > 1 and not os.path.exists(path) and all(map(os.path.isfile, several)):
        return several
    return [path]


def find_picture(text: str, store: ArtifactStore) -> str | None:
    """Return the id of a picture that is given as an id or a file; None if there is no such file.

    Args:
        text: The typed or pasted text.
        store: The picture store. A file is added to it.

    Raises:
        InputError: If an id is unknown.
        ImageError: If the file is not a picture.
    """
    from mgem_agent.artifacts.picture_id import is_picture_id

    path = typed_path(text)
    if is_picture_id(text.strip()) and not os.path.isfile(path):
        return store.get(text).id
    return store.put_picture(path, origin=str(path)).id if text.strip() and os.path.exists(path) else None


def store_typed(text: str, store: ArtifactStore) -> str:
    """Return the id of a picture like `find_picture`, but raise an error that names a missing file."""
    path = typed_path(text)
    return find_picture(text, store) or store.put_picture(path, origin=str(path)).id


def _words(text: str) -> list[str]:
    """Split text into words like a shell; return the whole text if its quotes do not match."""
    if os.name == "nt":  # a backslash is the path separator on Windows
        is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
        return [text[1:-1] if is_quoted else text]
    try:
        return shlex.split(text) or [text]
    except ValueError:  # an unmatched quote, as in it's.png
        return [text]


def _expanded(word: str) -> Path:
    """Return a path with `~` expanded, or the path of a local `file:` address."""
    if word[: len(SCHEME)].lower() == SCHEME:
        from urllib.request import url2pathname  # it imports an HTTP client

        parts = urlsplit(word)
        if parts.netloc.lower() in ("", "localhost"):
            return Path(url2pathname(parts.path))
    return user_path(word)
