"""The SQLite database of sessions. Its failures, such as a full disk or a read-only folder, become `StorageError`s.

LangGraph's savers and stores use the same connection, so the errors are translated in the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgem_agent.errors import StorageError

__all__ = ["BUSY_S", "SessionDatabaseError", "connect"]

BUSY_S = 30.0


class SessionDatabaseError(StorageError, sqlite3.OperationalError):
    """The sessions database cannot be read or written. It is also a `sqlite3.OperationalError`."""


def connect(file: Path, *, isolation_level: Any) -> sqlite3.Connection:
    """Open a database.

    Args:
        file: The database file, created if needed.
        isolation_level: As for `sqlite3.connect`.
    """
    connection = sqlite3.connect(
        file, timeout=BUSY_S, isolation_level=isolation_level, check_same_thread=False, factory=_Connection
    )
    # With a write-ahead log, a killed process loses no data, and there are fewer waits for the disk.
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SessionDatabaseError:
        raise
    except sqlite3.OperationalError as error:
        if isinstance(error.__context__, SessionDatabaseError):
            raise error.__context__ from None  # the first error is clearer than a later one, such as a failed commit
        raise SessionDatabaseError(
            f"The sessions database cannot be read or written: {error}. Free some disk space, or fix the permissions "
            f"of its folder. Saved sessions are not lost. Run: mgem doctor"
        ) from error


class _Cursor(sqlite3.Cursor):
    """A cursor that translates errors."""

    def execute(self, *arguments: Any) -> Any:
        with _translated():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        with _translated():
            return super().executemany(*arguments)


class _Connection(sqlite3.Connection):
    """A connection that translates errors."""

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def execute(self, *arguments: Any) -> Any:
        with _translated():
            return self.cursor().execute(*arguments)

    def executescript(self, script: str) -> Any:
        with _translated():
            return super().executescript(script)

    def commit(self) -> None:
        with _translated():
            super().commit()
