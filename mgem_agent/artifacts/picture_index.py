"""An index of a large folder of pictures, so that finding the newest ones, or those of a call, reads few files.

Decisions that matter:

- **The index holds nothing of its own.** It is made from names, times and sidecars, and is made again if it is missing,
  damaged or locked. A small folder has none.
- **A folder is read again if its time has changed**, which every stored, replaced or deleted file does. A folder that
  has just changed could change again within the resolution of its time, so it is read again, too.
- **Sidecars are read only to find the pictures of a call**, each once.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.core_model.encoded_picture import read_file
from mgem_agent.errors import ImageError

__all__ = ["INDEX_FILE", "PictureIndex", "scanned"]

INDEX_FILE = "index.sqlite"
"""Name of the index in the folder of pictures. It may be deleted at any time."""

MIN_PICTURES = 2_000
"""A folder with fewer pictures has no index, because reading it takes a few milliseconds."""

SETTLED_S = 2.0
"""Age at which a folder's time is trusted: some file systems count in whole or double seconds."""

BUSY_S = 2.0
FORMAT = 1
TABLES = """
CREATE TABLE folder (name TEXT PRIMARY KEY, listed INTEGER NOT NULL, signed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE picture (
    id TEXT PRIMARY KEY, changed INTEGER NOT NULL, sidecar INTEGER NOT NULL DEFAULT 0, call TEXT, seed TEXT
) WITHOUT ROWID;
CREATE INDEX picture_call ON picture (call) WHERE call IS NOT NULL;
CREATE INDEX picture_seed ON picture (seed) WHERE seed IS NOT NULL;
"""
ORDER = "CREATE INDEX IF NOT EXISTS picture_changed ON picture (changed DESC, id)"
IN_FOLDER = "id >= ? AND id < ?"
_FOLDER = re.compile(r"[0-9a-f]{2}")


class PictureIndex:
    """The index of a folder of pictures.

    Args:
        root: The folder.
        min_pictures: Number of pictures from which on the index is saved; `MIN_PICTURES` if not given.
    """

    def __init__(self, root: Path, *, min_pictures: int | None = None) -> None:
        self._root = root
        self._file = root / INDEX_FILE
        self._min_pictures = MIN_PICTURES if min_pictures is None else min_pictures

    def newest(self, limit: int | None = None) -> Sequence[str]:
        """Return the ids of pictures, newest first, by the times of their files.

        Args:
            limit: Maximum number.
        """
        with closing(self._opened()) as database:
            rows = database.execute("SELECT id FROM picture ORDER BY changed DESC, id LIMIT ?", (limit or -1,))
            return [name for (name,) in rows]

    def drawn_for(self, calls: Collection[str], seeds: Collection[int]) -> Sequence[str]:
        """Return the ids of pictures whose sidecar names one of some calls or has one of some seeds, sorted.

        Args:
            calls: Keys of calls.
            seeds: Seeds.
        """
        with closing(self._opened()) as database:
            _read_sidecars(database, self._root)
            found: set[str] = set()
            for column, wanted in (("call", list(calls)), ("seed", [str(seed) for seed in seeds])):
                for value in wanted:
                    found.update(
                        name for (name,) in database.execute(f"SELECT id FROM picture WHERE {column}=?", [value])
                    )
            _save(database)
            return sorted(found)

    def _opened(self) -> sqlite3.Connection:
        """Return the database, in which every folder is up to date."""
        if self._file.is_file():
            try:
                return self._refreshed(_connect(self._file))
            except sqlite3.DatabaseError as error:
                # A locked or read-only file is left; a damaged or older one is made again.
                if not isinstance(error, sqlite3.OperationalError):
                    self._file.unlink(missing_ok=True)
        database = self._refreshed(_made())
        [[num_pictures]] = database.execute("SELECT count(*) FROM picture")
        if num_pictures < self._min_pictures or self._file.exists() or not self._write(database):
            return database
        database.close()
        return _connect(self._file)

    def _write(self, database: sqlite3.Connection) -> bool:
        """Save the index, and return whether that was possible; otherwise it is made again the next time."""
        passing = self._file.with_name(f".{INDEX_FILE}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            with closing(sqlite3.connect(passing)) as saved:
                database.backup(saved)
            os.replace(passing, self._file)
        except (OSError, sqlite3.Error):
            return False
        finally:
            passing.unlink(missing_ok=True)
        return True

    def _refreshed(self, database: sqlite3.Connection) -> sqlite3.Connection:
        try:
            known = dict(database.execute("SELECT name, listed FROM folder"))
            present = {entry.name: entry for entry in _folders(self._root)}
            for name in known.keys() - present.keys():
                database.execute(f"DELETE FROM picture WHERE {IN_FOLDER}", _ids_of(name))
                database.execute("DELETE FROM folder WHERE name=?", [name])
            for name, entry in present.items():
                changed = _time_ns(entry)
                if known.get(name) != changed:
                    _list_folder(database, entry, changed)
            database.execute(ORDER)  # faster after a large folder was read than before
            _save(database)
        except BaseException:
            database.close()
            raise
        return database


def _connect(file: Path) -> sqlite3.Connection:
    """Open a saved index.

    Raises:
        sqlite3.DatabaseError: If it is damaged or has another format.
    """
    database = sqlite3.connect(file, timeout=BUSY_S)
    try:
        [[found]] = database.execute("PRAGMA user_version")
        if found != FORMAT:
            raise sqlite3.DatabaseError(f"The index has the format {found}, not {FORMAT}.")
        database.execute("PRAGMA synchronous=OFF")  # nothing is lost with it
    except BaseException:
        database.close()
        raise
    return database


def _made() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.executescript(f"PRAGMA user_version={FORMAT};{TABLES}")
    return database


def _save(database: sqlite3.Connection) -> None:
    """Save changes, if any; without changes, the file is not locked."""
    if database.in_transaction:
        database.commit()


def _list_folder(database: sqlite3.Connection, folder: os.DirEntry[str], changed: int) -> None:
    """Read the names and times of a folder's pictures again."""
    is_settled = time.time() - changed / 1e9 > SETTLED_S
    found = {}
    for entry in scanned(folder.path):
        name = entry.name.removesuffix(".png")
        if name.startswith(f"img-{folder.name}") and name != entry.name and is_picture_id(name):
            found[name] = _time_ns(entry)
    known = dict(database.execute(f"SELECT id, changed FROM picture WHERE {IN_FOLDER}", _ids_of(folder.name)))
    database.executemany("DELETE FROM picture WHERE id=?", [[name] for name in known.keys() - found.keys()])
    database.executemany(
        "INSERT INTO picture (id, changed) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET changed=excluded.changed",
        sorted(found.items() - known.items()),
    )
    # Sidecars have to be looked at again, too; the time 0 is never that of a folder.
    database.execute(
        "INSERT INTO folder (name, listed) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET listed=excluded.listed, "
        "signed=0",
        [folder.name, changed if is_settled else 0],
    )


def _read_sidecars(database: sqlite3.Connection, root: Path) -> None:
    """Read the calls and seeds of pictures in folders that have changed since they were last read."""
    for name, listed in database.execute("SELECT name, listed FROM folder WHERE signed=0").fetchall():
        rows = []
        known = database.execute(f"SELECT id, sidecar FROM picture WHERE {IN_FOLDER}", _ids_of(name)).fetchall()
        for picture, time_read in known:
            path = root / name / f"{picture}.json"
            changed = _time_ns(path)
            if changed != time_read:
                rows.append((changed, *_signs(path), picture))
        database.executemany("UPDATE picture SET sidecar=?, call=?, seed=? WHERE id=?", rows)
        database.execute("UPDATE folder SET signed=? WHERE name=?", [listed, name])


def _ids_of(folder: str) -> tuple[str, str]:
    """Return the first possible id of a folder's pictures, and the first that is too large."""
    return f"img-{folder}", f"img-{folder}g"


def _signs(path: Path) -> tuple[str | None, str | None]:
    """Return the call and the seed in a sidecar; None for each that is missing."""
    try:
        record: Any = json.loads(read_file(path))
        call, seed = record.get("call"), ((record.get("recipe") or {}).get("request") or {}).get("seed")
    except (ImageError, ValueError, AttributeError):
        return None, None
    return call if isinstance(call, str) else None, None if seed is None else str(seed)


def _folders(root: Path) -> Iterator[os.DirEntry[str]]:
    return (entry for entry in scanned(root) if _FOLDER.fullmatch(entry.name) and entry.is_dir())


def scanned(folder: str | os.PathLike[str]) -> Sequence[os.DirEntry[str]]:
    """Return the entries of a folder; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _time_ns(entry: os.DirEntry[str] | Path) -> int:
    """Return the modification time of a file in nanoseconds; 0 if it no longer exists."""
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
