"""Write a file atomically: it is complete or missing, even if the program is killed."""

from __future__ import annotations

import os
import platform
import re
import threading
import time
import uuid
from pathlib import Path

from mgem_agent.errors import StorageError

__all__ = ["TEMPORARY_SUFFIX", "sweep_left_over", "write_atomically"]

TEMPORARY_SUFFIX = ".mgem-part"
"""Ending of a file that is being written; one that is left over comes from a program that was killed."""

LEFT_OVER_S = 3600.0
"""Age of a passing file that nobody writes any more, where its writer cannot be looked for."""

WRITER = re.compile(rf"\.(?P<process>\d+)@(?P<machine>[A-Za-z0-9-]*)\.[0-9a-f]{{32}}{re.escape(TEMPORARY_SUFFIX)}$")

_swept: set[Path] = set()
_lock = threading.Lock()


def write_atomically(path: Path, data: bytes, *, is_last: bool = True) -> None:
    """Write a file under a temporary name next to its place, and rename it when it is on the disk.

    Args:
        path: Path of the file; its folder is created.
        data: The content.
        is_last: False if another file of the same folder is written next; syncing the folder then makes both durable.

    Raises:
        StorageError: If it cannot be written: a full disk, no permission. An existing file is not changed.
    """
    passing = path.with_name(f".{path.name}.{_writer()}{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        try:
            # Not mkstemp, which ignores the user's umask: its files are readable by the owner only.
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
        raise StorageError(
            f"{str(path)!r} cannot be written: {error.strerror or error}. Free some space or fix the permissions of "
            f"the folder; everything that was stored before is still there."
        ) from error


def sweep_left_over(folder: Path) -> None:
    """Remove temporary files of killed programs from a folder.

    Args:
        folder: The folder; its subfolders are not searched.
    """
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        try:
            is_old = time.time() - path.stat().st_mtime > LEFT_OVER_S
        except FileNotFoundError:  # its writer has finished
            continue
        if is_old or _is_writer_gone(path.name):
            path.unlink(missing_ok=True)


def _sweep_once(folder: Path) -> None:
    """Sweep a folder when this process first writes there."""
    place = folder.resolve()
    with _lock:
        if place in _swept:
            return
        _swept.add(place)
    sweep_left_over(folder)


def _writer() -> str:
    """Return the suffix of temporary files that identifies this process and this machine."""
    return f"{os.getpid()}@{re.sub(r'[^A-Za-z0-9-]', '-', platform.node())}."


def _is_writer_gone(name: str) -> bool:
    found = WRITER.search(name)
    if found is None or os.name != "posix" or not _writer().endswith(f"@{found['machine']}."):
        return False
    try:
        os.kill(int(found["process"]), 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return True
    except OSError:  # the process belongs to another user
        return False
    return False


def _sync_folder(folder: Path) -> None:
    """Make a renamed file durable, on systems where a folder can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
