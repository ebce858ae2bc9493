"""File names as people type them, and as terminals paste them when a file is dropped: quoted, escaped or `file://`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from mgem_agent.artifacts import ArtifactStore

__all__ = ["find_picture", "store_typed", "typed_path", "typed_paths"]

SCHEME = "file:"


def typed_path(text: str) -> Path:
    r"""Return the path that is meant; as it is written if there is such a file, else without quotes and escapes.

    Args:
        text: What was typed or pasted.

    Raises:
        InputError: If it begins with the home of nobody.

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
    """Return the paths of several files, where each word is one; else the one path that is meant.

    Args:
        text: What was typed or pasted.
    """
    path = typed_path(text)
    several = [_expanded(word) for word in _words(text)]
    if len(several) > 1 and not os.path.exists(path) and all(map(os.path.isfile, several)):
        return several
    return [path]


def find_picture(text: str, store: ArtifactStore) -> str | None:
    """Return the id of a picture that is named by its id or its file, which is stored; None if there is none.

    Args:
        text: What was typed or pasted.
        store: Where pictures are kept.

    Raises:
        InputError: If an id is unknown.
        ImageError: If the file is no picture.
    """
    from mgem_agent.artifacts.picture_id import is_picture_id

    path = typed_path(text)
    if is_picture_id(text.strip()) and not os.path.isfile(path):
        return store.get(text).id
    return store.put_picture(path, origin=str(path)).id if text.strip() and os.path.exists(path) else None


def store_typed(text: str, store: ArtifactStore) -> str:
    """Return the id of a picture as `find_picture` does, with an error that names the file if there is none."""
    path = typed_path(text)
    return find_picture(text, store) or store.put_picture(path, origin=str(path)).id


def _words(text: str) -> list[str]:
    """The words of a text as a shell reads them; the whole text where it is none that a shell could read."""
    if os.name == "nt":  # a backslash separates folders there
        is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
        return [text[1:-1] if is_quoted else text]
    try:
        return shlex.split(text) or [text]
    except ValueError:  # a quote without its other half, as in it's.png
        return [text]


def _expanded(word: str) -> Path:
    """A path with the user's home, or that of a `file:` address on this machine."""
    if word[: len(SCHEME)].lower() == SCHEME:
        parts = urlsplit(word)
        if parts.netloc.lower() in ("", "localhost"):
            return Path(url2pathname(parts.path))
    return user_path(word)
