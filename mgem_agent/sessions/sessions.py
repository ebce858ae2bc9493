"""Saved dialogues: the finished turns with messages and picture ids, and the current turn.

Key decisions:

- **Each turn is its own LangGraph thread.** LangGraph stores the complete state at every step. If the state contained
  the dialogue, the database would grow with the square of the number of turns. A finished turn becomes one record, and
  its checkpoints are deleted.
- **Records form a tree.** Each turn refers to the previous one, and a session is a name for the last turn. Undoing
  moves the name back, and forking adds a second name; neither copies data.
- **Checkpoints and records are stored by LangGraph's savers and stores**: in SQLite, PostgreSQL or memory. This package
  defines no tables.
- **Only the ids of pictures are stored here**, not the pictures.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import platformdirs
from filelock import FileLock
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.sqlite import SqliteStore

from mgem_agent.errors import InputError
from mgem_agent.extras import explain_missing
from mgem_agent.sessions.database import BUSY_S, connect
from mgem_agent.sessions.latest_step import LatestStep, copy_thread
from mgem_agent.sessions.locks import FolderLocks, MemoryLocks, SessionLocks, hold_soon
from mgem_agent.sessions.memory import MemoryCheckpoints, MemoryRecords
from mgem_agent.sessions.session_record import SessionSummary, new_record, now, summary_of, with_cost, with_turn
from mgem_agent.sessions.storable import storable
from mgem_agent.user_files import user_path

__all__ = ["Sessions", "default_session_folder", "new_session_name"]

MAX_NAME_CHARS = 200
PAGE = 200
SESSIONS = ("sessions",)


def new_session_name(kind: str) -> str:
    """Return a name for a new session, made of the time and random digits.

    Args:
        kind: Prefix of the name, such as `chat`.
    """
    return f"{kind}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def default_session_folder() -> Path:
    """Return the default folder: `sessions` in `MGEM_HOME`, or in the system's folder for program data."""
    home = os.environ.get("MGEM_HOME")
    folder = user_path(home) if home else platformdirs.user_data_path("mgem-agent", appauthor=False)
    return folder.absolute() / "sessions"


class _SqliteCheckpoints(LatestStep, SqliteSaver):
    """Checkpoints in SQLite."""


class Sessions:
    """Sessions by name. Create one with `Sessions.at`, `Sessions.in_memory` or `Sessions.postgres`.

    Args:
        checkpointer: Stores unfinished turns.
        records: Stores finished turns.
        locks: Prevent two processes from using one session.
        closing: Closes the database.
        owner: Name of the user whose sessions these are; empty for those of this machine's user.

    Examples:
        >>> sessions = Sessions.in_memory()
        >>> sessions.list()
        []
    """

    def __init__(
        self,
        checkpointer: BaseCheckpointSaver[Any],
        records: BaseStore,
        locks: SessionLocks,
        closing: ExitStack,
        owner: str = "",
    ) -> None:
        self.checkpointer = checkpointer
        self._records = records
        self._locks = locks
        self._closing = closing
        self._owner = owner
        self._names = ("users", owner, "sessions") if owner else SESSIONS

    @classmethod
    def at(cls, folder: str | os.PathLike[str] | None = None) -> Self:
        """Return sessions in a SQLite database.

        Args:
            folder: Folder of the database, created if needed; `default_session_folder()` if not given.

        Raises:
            InputError: If the folder cannot be created or the file in it is not a database.
        """
        folder = Path(folder) if folder is not None else default_session_folder()
        closing = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Neither library can create tables in two processes at once.
            with FileLock(folder / "setup.lock", timeout=BUSY_S):
                saver = _SqliteCheckpoints(_connect(folder, closing, isolation_level=""))
                saver.setup()
                records = SqliteStore(_connect(folder, closing, isolation_level=None))
                records.setup()
        except (OSError, sqlite3.Error) as error:
            closing.close()
            raise InputError(
                f"Sessions cannot be saved in {str(folder)!r}: {error}. Give a writable folder."
            ) from error
        return cls(saver, records, FolderLocks(folder / "locks"), closing)

    @classmethod
    def in_memory(cls) -> Self:
        """Return sessions in memory, which end with the program."""
        return cls(MemoryCheckpoints(), MemoryRecords(), MemoryLocks(), ExitStack())

    @classmethod
    def postgres(cls, url: str) -> Self:
        """Return sessions in a PostgreSQL database.

        Args:
            url: `postgresql://…`.

        Raises:
            MissingDependencyError: If the extra `postgres` is not installed.
        """
        with explain_missing("Saving sessions in PostgreSQL"):
            from mgem_agent.sessions.postgres import open_postgres
        return cls(*open_postgres(url))

    def of_user(self, owner: str) -> Self:
        """Return the sessions of one user, in the same database. No user's sessions are visible to another.

        Args:
            owner: Name of the user; empty for this machine's user.

        Raises:
            InputError: If the name has other characters than letters, digits, `-` and `_`.
        """
        if owner and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", owner):
            raise InputError(f"{owner[:80]!r} is not a valid user name. Use 1 to 64 letters, digits, '-' and '_'.")
        return type(self)(self.checkpointer, self._records, self._locks, self._closing, owner)

    def close(self) -> None:
        """Close the database; the sessions cannot be used afterwards."""
        self._closing.close()

    def hold(self, session: str, *, wait_s: float = 0.0) -> AbstractContextManager[None]:
        """Lock a session while it is used.

        Args:
            session: Its name.
            wait_s: Seconds to wait while it is in use elsewhere.

        Raises:
            InputError: If the name is not valid, or the session is in use elsewhere.
        """
        if not session.strip() or len(session) > MAX_NAME_CHARS or not session.isprintable():
            raise InputError(
                f"{session[:80]!r} is not a valid session name. Use 1 to {MAX_NAME_CHARS} printable characters."
            )
        return hold_soon(self._locks, f"{self._owner}/{session}" if self._owner else session, wait_s=wait_s)

    def is_held(self, session: str) -> bool:
        """Return whether a session is in use, here or elsewhere."""
        try:
            with self.hold(session):
                return False
        except InputError:
            return True

    def list(self) -> list[SessionSummary]:
        """Return all sessions, most recently changed first."""
        found = [summary_of(item) for _, item in self._all(self._names)]
        return sorted(found, key=lambda summary: (summary.updated, summary.name), reverse=True)

    def summary(self, session: str) -> SessionSummary:
        """Return the summary of a session.

        Raises:
            InputError: If there is no such session.
        """
        return summary_of(self._get(session))

    def turns(self, session: str, *, limit: int | None = None) -> Sequence[dict[str, Any]]:
        """Return the records of a session's finished turns, oldest first; empty if there is no such session.

        Args:
            session: Name of the session.
            limit: Maximum number; the latest turns are returned.
        """
        found: list[dict[str, Any]] = []
        record = self._find(session)
        turn = record["head"] if record else None
        while turn is not None and (limit is None or len(found) < limit):
            item = self._records.get(("turns", record["lineage"]), turn) if record else None
            if item is None:
                break
            found.append(item.value)
            turn = item.value["parent"]
        return found[::-1]

    def cost(self, session: str) -> dict[str, float]:
        """Return what the finished and undone turns of a session have cost; empty if there is no such session."""
        record = self._find(session)
        return record.get("cost", {}) if record else {}

    def charge(self, session: str, cost: Mapping[str, float], *, title: str | None = None) -> None:
        """Add to the cost of a session, such as that of a turn that is dropped.

        Args:
            session: Name of the session.
            cost: Amounts by name.
            title: Title of a session that is created if there is none of that name.

        Raises:
            InputError: If there is no such session, and no title.
        """
        if cost:
            record = self._get(session) if title is None else self._find(session) or new_record(session)
            self._write(record | {"cost": with_cost(record, cost), "title": record["title"] or (title or "")[:80]})

    def open_turn(self, session: str) -> dict[str, Any] | None:
        """Return the initial state of a session's unfinished turn, or None if there is none."""
        record = self._find(session)
        return record["open"] if record else None

    def begin(self, session: str, state: dict[str, Any], *, title: str) -> None:
        """Record the start of a turn, and create the session if needed.

        Args:
            session: Name of the session.
            state: Initial state of the turn, as JSON; its `turn` is the turn's id.
            title: Title of the session, if it has none yet.

        Raises:
            InputError: If another turn is unfinished.
        """
        record = self._find(session) or new_record(session)
        if record["open"] is not None:
            raise InputError(
                f"Session {session!r} has an unfinished turn. Call resume({session!r}) to continue it, or "
                f"undo({session!r}) to drop it."
            )
        self._write(record | {"open": state, "title": record["title"] or title[:80]})

    def finish(self, session: str, turn: dict[str, Any]) -> None:
        """Save a finished turn, and delete its checkpoints.

        Args:
            session: Name of the session.
            turn: Record of the turn, as JSON, with its `id`.
        """
        record = self._get(session)
        writes = []
        if record["head"] != turn["id"]:
            writes.append(_put_op(("turns", record["lineage"]), turn["id"], turn | {"parent": record["head"]}))
            record = with_turn(record, turn, 1) | {"head": turn["id"], "cost": with_cost(record, turn.get("cost", {}))}
        writes.append(_put_op(self._names, session, record | {"open": None, "updated": now()}))
        self._records.batch(writes)  # atomically, and with one write to the disk
        self._forget(turn["id"])

    def take_open(self, source: Sessions, name: str, session: str, *, title: str) -> str:
        """Copy the unfinished turn of a session elsewhere to a session here, so that it can be resumed here.

        Args:
            source: The sessions that have it.
            name: Its session there.
            session: Its session here, created if needed.
            title: Title of the session, if it has none yet.

        Returns:
            The id of the turn.

        Raises:
            InputError: If there is no unfinished turn there, or there is one here.
        """
        state = source.open_turn(name)
        if state is None:
            raise InputError(f"Session {name!r} has no unfinished turn.")
        turn = str(state["turn"])
        for key, drawn in source.drawn(turn).items():
            self.note_drawn(turn, key, drawn)
        copy_thread(source.checkpointer, self.checkpointer, turn, {"session": session})
        self.begin(session, {**state, "session": session}, title=title)
        return turn

    def undo(self, session: str) -> None:
        """Drop the unfinished turn, or the last turn if there is none.

        Raises:
            InputError: If there is no such session, or it is empty.
        """
        record = self._get(session)
        if record["open"] is not None:
            self._write(record | {"open": None})
            self._forget(record["open"]["turn"])
            return
        last = self.turns(session, limit=1)
        if not last:
            raise InputError(f"Session {session!r} has no turn to undo.")
        self._write(with_turn(record, last[0], -1) | {"head": last[0]["parent"]})

    def fork(self, session: str, name: str, *, turn: str | None = None) -> None:
        """Create a session with the finished turns of another.

        Args:
            session: Name of the session.
            name: Name of the new session.
            turn: Id of the last turn of the new session; None for all turns.

        Raises:
            InputError: If there is no such session or turn, or the new name is taken.
        """
        record = self._get(session)
        if self._find(name) is not None:
            raise InputError(f"The session {name!r} already exists. Choose another name.")
        if turn is not None and turn != record["head"]:
            turns = self.turns(session)
            ids = [each["id"] for each in turns]
            if turn not in ids:
                raise InputError(f"Session {session!r} has no turn {turn!r}. It may have been undone.")
            left = turns[: ids.index(turn) + 1]
            num_pictures = sum(len(each.get("pictures", ())) for each in left)
            record = record | {"head": turn, "num_turns": len(left), "num_pictures": num_pictures}
        self._write(record | {"name": name, "open": None, "created": now(), "cost": {}})

    def delete(self, session: str) -> None:
        """Delete a session. Its pictures, and turns that it shares with another session, are kept.

        Raises:
            InputError: If there is no such session.
        """
        record = self._get(session)
        self._records.delete(self._names, session)
        if record["open"] is not None:
            self._forget(record["open"]["turn"])
        if not any(item["lineage"] == record["lineage"] for _, item in self._all(self._names)):
            self._clear(("turns", record["lineage"]))

    def note_drawn(self, turn: str, key: str, drawn: dict[str, Any]) -> None:
        """Record that a picture of an unfinished turn is stored.

        Args:
            turn: Id of the turn.
            key: Place of the picture in the turn.
            drawn: Data of the picture, as JSON.
        """
        self._put(("drawn", turn), key, drawn)

    def drawn(self, turn: str) -> dict[str, dict[str, Any]]:
        """Return the recorded pictures of an unfinished turn, by place."""
        return dict(self._all(("drawn", turn)))

    def put_note(self, kind: str, key: str, note: dict[str, Any]) -> None:
        """Save a note of the user, which belongs to no turn.

        Args:
            kind: What it is about, such as `responses`.
            key: Key among the notes of this kind.
            note: The note, as JSON.
        """
        self._put(self._notes(kind), key, note)

    def note(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a note; None if there is none. Arguments as for `put_note`."""
        item = self._records.get(self._notes(kind), key)
        return item.value if item is not None else None

    def delete_note(self, kind: str, key: str) -> None:
        """Delete a note, if there is one. Arguments as for `put_note`."""
        self._records.delete(self._notes(kind), key)

    def _notes(self, kind: str) -> tuple[str, ...]:
        return (*self._names[:-1], "notes", kind)

    def _find(self, session: str) -> dict[str, Any] | None:
        item = self._records.get(self._names, session)
        return item.value if item is not None else None

    def _get(self, session: str) -> dict[str, Any]:
        record = self._find(session)
        if record is None:
            known = ", ".join(repr(summary.name) for summary in self.list()[:5]) or "none"
            raise InputError(f"There is no session {session!r}. The latest sessions: {known}. List all: mgem sessions")
        return record

    def _write(self, record: dict[str, Any]) -> None:
        self._put(self._names, record["name"], record | {"updated": now()})

    def _put(self, namespace: tuple[str, ...], key: str, value: dict[str, Any]) -> None:
        self._records.put(namespace, key, storable(value), index=False)

    def _all(self, namespace: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        offset = 0
        while page := self._records.search(namespace, limit=PAGE, offset=offset):
            yield from ((item.key, item.value) for item in page)
            offset += len(page)

    def _clear(self, namespace: tuple[str, ...]) -> None:
        if writes := [_put_op(namespace, key, None) for key, _ in self._all(namespace)]:
            self._records.batch(writes)

    def _forget(self, turn: str) -> None:
        """Delete the checkpoints of a turn and the records of its pictures."""
        self.checkpointer.delete_thread(turn)
        self._clear(("drawn", turn))


def _connect(folder: Path, closing: ExitStack, *, isolation_level: Any) -> sqlite3.Connection:
    connection = connect(folder / "sessions.sqlite", isolation_level=isolation_level)
    closing.callback(connection.close)
    return connection


def _put_op(namespace: tuple[str, ...], key: str, value: dict[str, Any] | None) -> PutOp:
    return PutOp(namespace, key, None if value is None else storable(value), index=False)
