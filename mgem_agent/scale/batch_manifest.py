"""The manifest of a batch: a JSON line for each item, which tells a later run what is done.

A row is appended, and is on the disk before the next one is written; an incomplete last line, which a killed run
leaves, is ignored. At the end the file is replaced atomically by one with a single row for each item, in the order of
the batch. Rows of other items are kept, so several batches can share a folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from filelock import FileLock, Timeout

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import InputError, ToolError
from mgem_agent.redaction import without_secrets
from mgem_agent.scale.batch_row import BatchItem, BatchRow

__all__ = ["MANIFEST_FILE", "BatchManifest"]

MANIFEST_FILE = "manifest.jsonl"
LOCK_FILE = ".manifest.lock"


class BatchManifest:
    """The rows of a folder; use it in a `with` statement, by one process at a time.

    Args:
        folder: The folder of the batch; created if missing.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / MANIFEST_FILE
        self._rows: dict[str, BatchRow] = {}
        self._lock = FileLock(self.path.with_name(LOCK_FILE), timeout=0)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Read the rows.

        Raises:
            InputError: If another process is working on the batch, or a line is not a row.
            ToolError: If the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise InputError(
                f"Another process is working on the batch in {str(self.path.parent)!r}. Wait until it is done, or use "
                f"another folder."
            ) from error
        except OSError as error:
            raise _not_written(self.path, error) from error
        try:
            self._rows = {row.key: row for row in self._read()}
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what is written stays."""
        self._close()
        self._lock.release()

    def done(self, item: BatchItem) -> BatchRow | None:
        """Return the row of an item that is done; None if it is not, has changed since, or its files are missing."""
        row = self._rows.get(item.key)
        if row is None or row.status != "done" or row.fingerprint != item.fingerprint:
            return None
        return row if all(Path(file).exists() for file in row.files) else None

    def write(self, row: BatchRow) -> None:
        """Add a row.

        Raises:
            ToolError: If it cannot be written.
        """
        self._rows[row.key] = row
        try:
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(_line(row))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _not_written(self.path, error) from error

    def finish(self, keys: Iterable[str]) -> None:
        """Replace the file by one with a row for each item.

        Args:
            keys: The order of the items; others follow.

        Raises:
            ToolError: If it cannot be written; the earlier file is kept.
        """
        self._close()
        order = dict.fromkeys((*(key for key in keys if key in self._rows), *self._rows))
        text = "".join(_line(self._rows[key]) for key in order)
        if not self.path.exists() or self.path.read_text(encoding="utf-8") != text:
            write_atomically(self.path, text.encode())

    def _read(self) -> list[BatchRow]:
        """Read the rows, and remove an incomplete last line."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        rows = []
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                rows.append(BatchRow.from_json(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"Line {number} of {str(self.path)!r} is not the row of a batch. Correct the file, or delete it to "
                    f"begin again."
                ) from error
        return rows

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(row: BatchRow) -> str:
    return without_secrets(json.dumps(row.to_json(), ensure_ascii=True)) + "\n"


def _not_written(path: Path, error: OSError) -> ToolError:
    return ToolError(
        f"{str(path)!r} cannot be written: {error.strerror or error}. Free some space, or give another folder with "
        f"--out; what is done is kept."
    )
