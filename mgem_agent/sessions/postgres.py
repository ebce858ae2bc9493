"""Sessions in a PostgreSQL database, for an agent on several machines. Needs the extra `postgres`.

Decisions that matter:

- **A session is locked by an advisory lock of the database**, which ends with the connection of its holder. If that
  connection breaks, a new one is made for the next lock.
- **Tables are created and brought forward by the libraries**, which number their migrations. One process does it at a
  time. Others ask for its lock again and again instead of waiting in the database, where `CREATE INDEX CONCURRENTLY`
  would wait for them. A database of a later release is refused.
- **Connections are taken from a pool** and checked before use, so a server that was restarted ends no turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg import Connection, Error, InterfaceError, OperationalError, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from mgem_agent.errors import InputError, StorageError
from mgem_agent.sessions.latest_step import LatestStep
from mgem_agent.sessions.locks import MemoryLocks, in_use

__all__ = ["PostgresLocks", "open_postgres"]

MAX_CONNECTIONS = 8
CONNECTED_S = 10.0
"""Seconds to wait for a connection."""

PREPARED_S, PREPARED_AGAIN_S = 300.0, 0.1
"""Seconds to wait while another process prepares the tables, and between two tries."""

SETUP_LOCK = int.from_bytes(b"mgemagnt", "big", signed=True)


class _PostgresCheckpoints(LatestStep, PostgresSaver):
    """Checkpoints in PostgreSQL."""


class _Connections(ConnectionPool[Connection[DictRow]]):
    """A pool whose failures are errors of this package."""

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[Connection[DictRow]]:
        """Lend a connection.

        Raises:
            StorageError: If the database cannot be reached.
        """
        with _explained(), super().connection(timeout) as lent:
            yield lent


class PostgresLocks:
    """Locks of the sessions in a database.

    Args:
        url: Address of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection[Any] | None = None
        self._lock = threading.Lock()
        self._own = MemoryLocks()  # the database allows one connection to take the same lock twice

    @contextmanager
    def hold(self, session: str) -> Iterator[None]:
        """Hold a session.

        Raises:
            InputError: If another process, or another thread of this one, holds it.
            StorageError: If the database cannot be reached.
        """
        digest = sha256(b"mgem-agent session " + session.encode("utf-8", "surrogatepass")).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        with self._own.hold(session):
            connection, is_free = self._tried(key)
            if not is_free:
                raise in_use(session, "another process")
            try:
                yield
            finally:
                with suppress(OperationalError, InterfaceError):  # its locks have ended with it
                    connection.execute("SELECT pg_advisory_unlock(%s)", [key])

    def close(self) -> None:
        """Close the connection; all locks end."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _tried(self, key: int) -> tuple[Connection[Any], bool]:
        """Try to take a lock; return the connection, and whether the lock was free."""
        with self._lock, _explained():
            for is_last in (False, True):
                connection = self._connection
                if connection is None or connection.closed:
                    connection = self._connection = _connect(self._url)
                try:
                    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
                    return connection, bool(row and row[0])
                except (OperationalError, InterfaceError):  # the server was restarted, or closed an idle connection
                    connection.close()
                    if is_last:
                        raise
            raise AssertionError("unreachable")


def open_postgres(url: str) -> tuple[PostgresSaver, PostgresStore, PostgresLocks, ExitStack]:
    """Connect to a database, and create missing tables.

    Args:
        url: `postgresql://…`.

    Returns:
        The checkpoint saver, the record store, the locks, and the stack that closes them.

    Raises:
        InputError: If the database cannot be reached, or was made by a later release.
    """
    with ExitStack() as opened:
        try:
            with _connect(url) as preparing:  # fails at once with the reason, which a pool would wait for
                _prepare(url, preparing)
            pool = _Connections(
                url,
                min_size=1,
                max_size=MAX_CONNECTIONS,
                timeout=CONNECTED_S,
                check=_check,
                kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
                open=False,
            )
            opened.enter_context(pool)
            locks = PostgresLocks(url)
            opened.callback(locks.close)
        except Error as error:
            # The address may contain a password, but the driver's message does not.
            raise InputError(
                f"The PostgreSQL database of the sessions cannot be used: {' '.join(str(error).split())} "
                f"Check its address, and that the server is running."
            ) from error
        return _PostgresCheckpoints(pool), PostgresStore(pool), locks, opened.pop_all()


def _connect(url: str) -> Connection[Any]:
    return Connection.connect(url, autocommit=True)


def _check(connection: Connection[Any]) -> None:
    """Raise an error if a connection is broken; the pool then makes a new one."""
    ConnectionPool.check_connection(connection)


def _prepare(url: str, connection: Connection[Any]) -> None:
    """Create the tables, or bring those of an earlier release forward; one process at a time.

    Args:
        url: Address of the database.
        connection: Holds the lock meanwhile.
    """
    end = time.monotonic() + PREPARED_S
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [SETUP_LOCK]).fetchone()
        if row and row[0]:
            break
        if time.monotonic() > end:
            raise InputError(
                f"Another process has prepared the PostgreSQL database of the sessions for {PREPARED_S:.0f} seconds. "
                f"Wait until it ends, or end it."
            )
        time.sleep(PREPARED_AGAIN_S)
    try:
        _check_release(connection, "checkpoint_migrations", len(PostgresSaver.MIGRATIONS))
        _check_release(connection, "store_migrations", len(PostgresStore.MIGRATIONS))
        with PostgresSaver.from_conn_string(url) as saver:
            saver.setup()
        with PostgresStore.from_conn_string(url) as records:
            records.setup()
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [SETUP_LOCK])


def _check_release(connection: Connection[Any], table: str, num_known: int) -> None:
    """Check that no later release has changed the tables.

    Args:
        connection: A connection.
        table: The library's table of migrations.
        num_known: Number of migrations that the installed library knows.
    """
    row = connection.execute("SELECT to_regclass(%s)", [table]).fetchone()
    if not row or row[0] is None:
        return
    found = connection.execute(sql.SQL("SELECT max(v) FROM {}").format(sql.Identifier(table))).fetchone()
    latest = found[0] if found and found[0] is not None else -1
    if latest >= num_known:
        raise InputError(
            f"The PostgreSQL database of the sessions was changed by a later release ({table} {latest}; this release "
            f"knows up to {num_known - 1}). Run: pip install --upgrade langgraph-checkpoint-postgres mgem-agent"
        )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise StorageError(
            f"The PostgreSQL database of the sessions cannot be reached: {' '.join(str(error).split())} Saved sessions "
            f"are not lost. Check that the server is running. Run: mgem doctor"
        ) from error
