"""Locks that let only one process use a session at a time.

A lock is a file lock of the operating system. It ends with the process that holds it, even after a crash, so there are
no stale locks. A second file names the holder, for error messages only.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from mgem_agent.errors import InputError

__all__ = ["FolderLocks", "MemoryLocks", "SessionLocks", "hold_soon", "in_use"]

HOLD_AGAIN_S = 0.05
"""Seconds between two tries to hold a session that is waited for."""


class SessionLocks(Protocol):
    """Locks of sessions."""

    def hold(self, session: str) -> AbstractContextManager[None]:
        """Hold a session; an `InputError` if it is in use elsewhere."""
        ...


@contextmanager
def hold_soon(locks: SessionLocks, session: str, *, wait_s: float) -> Iterator[None]:
    """Hold a session.

    Args:
        locks: The locks.
        session: Name of the session.
        wait_s: Seconds to wait while it is in use elsewhere.

    Raises:
        InputError: If it is still in use elsewhere.
    """
    end = time.monotonic() + wait_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locks.hold(session))
                break
            except InputError:
                if time.monotonic() >= end:
                    raise
                time.sleep(HOLD_AGAIN_S)
        yield


def in_use(session: str, holder: str) -> InputError:
    """Return the error for a session that is in use."""
    return InputError(f"Session {session!r} is in use by {holder}. Wait until its turn ends, or use another session.")


class FolderLocks:
    """Locks of sessions that are saved in a folder.

    Args:
        folder: Folder for the lock files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, session: str) -> Iterator[None]:
        """Hold a session.

        Raises:
            InputError: If another process, or another thread of this one, holds it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f"{sha256(session.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.lock"
        note = place.with_suffix(".json")
        # A generator may be closed by another thread than the one that started it.
        lock = FileLock(place, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise in_use(session, _holder(note)) from error
        try:
            note.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()


def _holder(note: Path) -> str:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        return f"process {known['process']} on {known['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


class MemoryLocks:
    """Locks of sessions that exist only in this process."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, session: str) -> Iterator[None]:
        """Hold a session; errors as those of `FolderLocks`."""
        with self._lock:
            if session in self._held:
                raise in_use(session, "another thread of this process")
            self._held.add(session)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(session)
