"""Read paths and text files that the user names: expand `~`, detect the encoding, limit the size, refuse pipes."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import platformdirs

from mgem_agent.errors import InputError
from mgem_agent.text_decoding import decode_text

__all__ = ["cache_folder", "read_user_file", "user_path"]


def cache_folder() -> Path:
    """Return the folder for what can be made or downloaded again: `MGEM_CACHE`, or the one of the system.

    Raises:
        InputError: If `MGEM_CACHE` begins with an unknown home folder.
    """
    own = os.environ.get("MGEM_CACHE")
    return user_path(own) if own else platformdirs.user_cache_path("mgem-agent", appauthor=False)


def user_path(name: str | os.PathLike[str]) -> Path:
    """Return a path with `~` and `~name` expanded to a home folder.

    Args:
        name: The path as the user wrote it.

    Raises:
        InputError: If there is no such home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{os.fspath(name)!r} begins with an unknown home folder. Write the full path, or './' before a file name "
            f"that begins with '~'."
        ) from error


def read_user_file(path: Path, what: str, *, max_bytes: int) -> str:
    """Read a text file that the user names. Invalid bytes are replaced, with a logged warning.

    Args:
        path: The file.
        what: What the file is, as the start of a sentence, such as "The recipe".
        max_bytes: Maximum size of the file in bytes.

    Raises:
        FileNotFoundError: If there is no such file; the caller handles this.
        InputError: If it is a pipe, a socket, a device or a folder, is too large, or cannot be read.
    """
    shown = f"{what} {str(path)!r}"
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
            raise InputError(
                f"{shown} is a pipe or a device, not a file. Save the content to a file and give its path."
            )
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{shown} cannot be read: {reason}. Check the path.") from error
    if len(data) > max_bytes:
        raise InputError(f"{shown} is larger than {max_bytes:,} bytes. Check the path.")
    text, notice = decode_text(data, shown)
    if notice is not None:
        logging.getLogger(__name__).warning(notice)
    return text
