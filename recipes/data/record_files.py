"""Files of records that an interrupted run can continue: complete lines, in order, and their settings.

`FILE.jsonl.settings.json` next to the records has the settings that they depend on; a run with other settings is
refused. An incomplete last line is removed and written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError

__all__ = ["RecordWriter", "read_records"]


class RecordWriter:
    """Adds records to a file, one JSON object a line.

    Args:
        path: The file; it is created with its folder if missing.
        settings: What the records depend on.

    Attributes:
        num_records: Number of records.

    Raises:
        InputError: If the file has records of other settings, or cannot be written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check_settings(settings)
            self.num_records = self._drop_cut_line()
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be written: {error.strerror}. Give another path.") from error

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        note = self.path.with_name(f"{self.path.name}.settings.json")
        text = json.dumps(settings, sort_keys=True)
        if self.path.exists() and note.exists() and json.loads(note.read_text(encoding="utf-8")) != json.loads(text):
            raise InputError(
                f"{str(self.path)!r} was made with other settings: {note.read_text(encoding='utf-8')}. Use "
                "these, give another path, or delete the file."
            )
        part = note.with_name(f"{note.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, note)

    def _drop_cut_line(self) -> int:
        if not self.path.exists():
            return 0
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        return data.count(b"\n")

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()
        self.num_records += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, settings: Mapping[str, Any]) -> Iterator[RecordWriter]:
        """Open a writer in a `with` block; arguments as for the class."""
        writer = cls(path, settings)
        try:
            yield writer
        finally:
            writer.close()


def read_records(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file.

    Raises:
        InputError: If the file cannot be read, or a line is not a record.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                record = json.loads(line)
                if not isinstance(record, dict) or "conversations" not in record:
                    raise InputError(f"Line {number} of {str(path)!r} is not a record with 'conversations'.")
                yield record
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}. Create it with: mgem data") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r} is not JSON lines: {error}.") from error
