"""The SQLite database of sessions, whose failures are errors of ours: a full disk, a folder that may not be written.

LangGraph's savers and stores write to it too, so the errors are translated here, in the connection that they are given.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgem_agent.errors import ToolError

__all__ = ["BUSY_S", "SessionDatabaseError", "connect"]

BUSY_S = 30.0


class SessionDatabaseError(ToolError, sqlite3.OperationalError):
    """The database of the sessions cannot be read or written; SQLite's own error too, for those who expect that."""


def connect(file: Path, *, isolation_level: Any) -> sqlite3.Connection:
    """Open a database.

    Args:
        file: Its file, made if it is not there.
        isolation_level: As for `sqlite3.connect`.
    """
    connection = sqlite3.connect(
        file, timeout=BUSY_S, isolation_level=isolation_level, check_same_thread=False, factory=_Connection
    )
    # With a write-ahead log this loses nothing to a killed process, and waits for the disk less often.
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
            raise error.__context__ from None  # what followed it, such as a commit after the disk was full, says less
        raise SessionDatabaseError(
            f"The sessions cannot be read or written: {error}. Free some space or mend the permissions of their "
            f"folder. What was kept before is not lost. Run: mgem doctor",
            retryable=True,
        ) from error


class _Cursor(sqlite3.Cursor):
    """A cursor with our errors."""

    def execute(self, *arguments: Any) -> Any:
        with _translated():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        with _translated():
            return super().executemany(*arguments)


class _Connection(sqlite3.Connection):
    """A connection with our errors."""

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
