"""Writing a file so that it is there whole or not at all, whatever kills the program."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from mgem_agent.errors import ToolError

__all__ = ["TEMPORARY_SUFFIX", "write_atomically"]

TEMPORARY_SUFFIX = ".mgem-part"
"""Ending of a file that is being written; one that is left over comes from a program that was killed."""


def write_atomically(path: Path, data: bytes, *, is_last: bool = True) -> None:
    """Write a file under a passing name beside its place, and put it there when it is safe on the disk.

    Args:
        path: Where it shall be; its folder is made.
        data: All of it.
        is_last: False where another file of the same folder is written next: that one makes both names last.

    Raises:
        ToolError: If it cannot be written: a full disk, no permission. The place is as it was before.
    """
    passing = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not mkstemp: a picture is as readable to others as the person's umask says.
            with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(passing, path)
        finally:
            passing.unlink(missing_ok=True)
        if is_last:
            _sync_folder(path.parent)
    except OSError as error:
        raise ToolError(
            f"{str(path)!r} cannot be written: {error.strerror or error}. Free some space or mend the permissions of "
            f"the folder; nothing that was stored before is lost.",
            retryable=True,
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the new name last as well, on systems where a folder can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
