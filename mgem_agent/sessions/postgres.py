"""Sessions in a PostgreSQL database, for an agent that runs on more than one machine. Needs the extra `postgres`.

A session is held by an advisory lock of the database, which goes with the connection of its holder.
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
        connection: Holds the locks; used for nothing else.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._own = MemoryLocks()  # the database lets one connection lock the same thing twice

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
    """Connect to a database, and make the tables that it lacks.

    Args:
        url: `postgresql://…`.

    Returns:
        What keeps checkpoints, records and locks, and what closes them.

    Raises:
        InputError: If it cannot be reached.
    """
    with ExitStack() as opened:
        try:
            saver = opened.enter_context(_PostgresCheckpoints.from_conn_string(url))
            records = opened.enter_context(PostgresStore.from_conn_string(url))
            locking = opened.enter_context(Connection.connect(url, autocommit=True))
            # Neither library expects two processes that make the tables at once; the lock goes with its connection.
            with Connection.connect(url, autocommit=True) as preparing:
                preparing.execute("SELECT pg_advisory_lock(%s)", [int.from_bytes(b"mgemagnt", "big", signed=True)])
                saver.setup()
                records.setup()
        except Error as error:
            # The address may hold a password, and the driver's words do not.
            raise InputError(
                f"The PostgreSQL database of the sessions cannot be used: {' '.join(str(error).split())} "
                f"Check its address and that the server runs."
            ) from error
        return saver, records, PostgresLocks(locking), opened.pop_all()
