"""Paths as people write them, and text files that they name: a home with `~`, an encoding, a limit, and no pipe."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.text_decoding import decode_text

__all__ = ["read_user_file", "user_path"]


def user_path(name: str | os.PathLike[str]) -> Path:
    """Return a path with `~` and `~name` put as the home that is meant.

    Args:
        name: As a person wrote it.

    Raises:
        InputError: If there is no such home.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{os.fspath(name)!r} begins with a home that is not known here. Write the whole path, or './' before the "
            f"'~' of a file's name."
        ) from error


def read_user_file(path: Path, what: str, *, max_bytes: int) -> str:
    """Read a text file that a person names; bytes in no known encoding are replaced, which is logged as a warning.

    Args:
        path: The file.
        what: What it is, as the start of a sentence, such as "The recipe".
        max_bytes: Most bytes of such a file.

    Raises:
        FileNotFoundError: If there is none; the caller knows what that means.
        InputError: If it is a pipe, a socket or a folder, too large, or not to be read.
    """
    shown = f"{what} {str(path)!r}"
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
            raise InputError(f"{shown} is a pipe or a device, and no file. Write it to a file, and name that.")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{shown} cannot be read: {reason}. Check the path.") from error
    if len(data) > max_bytes:
        raise InputError(f"{shown} is larger than {max_bytes:,} bytes. Give the file that is meant.")
    text, notice = decode_text(data, shown)
    if notice is not None:
        logging.getLogger(__name__).warning(notice)
    return text
