"""Sessions in a PostgreSQL database, for an agent on several machines. Needs the extra `postgres`.

A session is locked by an advisory lock of the database, which ends with the connection of its holder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg import Connection, Error

from mgem_agent.errors import InputError
from mgem_agent.sessions.latest_step import LatestStep
from mgem_agent.sessions.locks import MemoryLocks, in_use

__all__ = ["PostgresLocks", "open_postgres"]


class _PostgresCheckpoints(LatestStep, PostgresSaver):
    """Checkpoints in PostgreSQL."""


class PostgresLocks:
    """Locks of the sessions in a database.

    Args:
        connection: Connection that holds the locks; it must not be used for anything else.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._own = MemoryLocks()  # the database allows one connection to take the same lock twice

    @contextmanager
    def hold(self, session: str) -> Iterator[None]:
        """Hold a session.

        Raises:
            InputError: If another process, or another thread of this one, holds it.
        """
        digest = sha256(b"mgem-agent session " + session.encode("utf-8", "surrogatepass")).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        with self._own.hold(session):
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
            if row is None or not row[0]:
                raise in_use(session, "another process")
            try:
                yield
            finally:
                self._connection.execute("SELECT pg_advisory_unlock(%s)", [key])


def open_postgres(url: str) -> tuple[PostgresSaver, PostgresStore, PostgresLocks, ExitStack]:
    """Connect to a database, and create missing tables.

    Args:
        url: `postgresql://…`.

    Returns:
        The checkpoint saver, the record store, the locks, and the stack that closes them.

    Raises:
        InputError: If the database cannot be reached.
    """
    with ExitStack() as opened:
        try:
            saver = opened.enter_context(_PostgresCheckpoints.from_conn_string(url))
            records = opened.enter_context(PostgresStore.from_conn_string(url))
            locking = opened.enter_context(Connection.connect(url, autocommit=True))
            # Neither library can create tables in two processes at once, so this lock is held meanwhile.
            with Connection.connect(url, autocommit=True) as preparing:
                preparing.execute("SELECT pg_advisory_lock(%s)", [int.from_bytes(b"mgemagnt", "big", signed=True)])
                saver.setup()
                records.setup()
        except Error as error:
            # The address may contain a password, but the driver's message does not.
            raise InputError(
                f"The PostgreSQL database of the sessions cannot be used: {' '.join(str(error).split())} "
                f"Check its address, and that the server is running."
            ) from error
        return saver, records, PostgresLocks(locking), opened.pop_all()
