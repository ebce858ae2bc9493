"""Where each record is, how long its text is, and how many pictures it has: what a batch plan needs to know.

An index is a Parquet file with one row a record, in order, and the names and sizes of the files of records in its
metadata. `mgem data pack` writes it with the shards; `mgem data index` writes it for other files. With it, nothing is
scanned when a training starts.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mgem_agent.errors import InputError
from mgem_agent.extras import explain_missing

if TYPE_CHECKING:
    pass

__all__ = ["INDEX_FILE", "RecordIndex", "index_name"]

INDEX_FILE = "index.parquet"
"""The index in a folder of shards."""

_VERSION = 1
_META = b"mgem_agent"
_COLUMNS: dict[str, type[np.integer[Any]]] = {
    "file": np.uint32,
    "start": np.uint64,
    "length": np.uint64,
    "num_chars": np.int32,
    "num_images": np.uint16,
}


def index_name(file: str) -> str:
    """Return the name of the index of a single file of records."""
    return f"{file}.{INDEX_FILE}"


@dataclass(frozen=True, eq=False)
class RecordIndex:
    """The records of some files, in order.

    Args:
        files: Names of the files, and the bytes of each.
        file: For each record, the index of its file.
        start: First byte of each record.
        length: Bytes of each record, with its pictures.
        num_chars: Characters of the turns of each record.
        num_images: Pictures of each record.
        problems: Why records cannot be used: category and message, by the record's index.
    """

    files: tuple[tuple[str, int], ...]
    file: np.ndarray
    start: np.ndarray
    length: np.ndarray
    num_chars: np.ndarray
    num_images: np.ndarray
    problems: dict[int, tuple[str, str]]

    def __len__(self) -> int:
        return len(self.file)

    @classmethod
    def from_rows(
        cls,
        files: Sequence[tuple[str, int]],
        rows: Sequence[tuple[int, int, int, int, int]],
        problems: dict[int, tuple[str, str]] | None = None,
    ) -> RecordIndex:
        """Make an index of rows.

        Args:
            files: Names of the files, and the bytes of each.
            rows: Index of the file, first byte, bytes, characters and pictures of each record.
            problems: Why records cannot be used.
        """
        values = np.array(rows, np.uint64).reshape(-1, len(_COLUMNS))
        columns = {
            name: np.minimum(values[:, place], np.iinfo(kind).max).astype(kind)
            for place, (name, kind) in enumerate(_COLUMNS.items())
        }
        return cls(tuple(files), **columns, problems=problems or {})

    @classmethod
    def joined(cls, parts: Sequence[RecordIndex]) -> RecordIndex:
        """Return the index of the records of several indices, one after another."""
        files = tuple(file for part in parts for file in part.files)
        before = np.cumsum([0, *(len(part.files) for part in parts)])
        first = np.cumsum([0, *(len(part) for part in parts)])
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        columns["file"] = np.concatenate([part.file + shift for part, shift in zip(parts, before, strict=False)])
        columns["file"] = columns["file"].astype(np.uint32)
        problems = {
            int(shift) + place: problem
            for part, shift in zip(parts, first, strict=False)
            for place, problem in part.problems.items()
        }
        return cls(files, **columns, problems=problems)

    def to_bytes(self) -> bytes:
        """Return the index as the content of a Parquet file."""
        pa, parquet = _arrow()
        meta = {"version": _VERSION, "files": self.files, "problems": sorted(self.problems.items())}
        table = pa.table({name: getattr(self, name) for name in _COLUMNS})
        output = io.BytesIO()
        parquet.write_table(table.replace_schema_metadata({_META: json.dumps(meta).encode()}), output)
        return output.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> RecordIndex:
        """Read an index.

        Args:
            content: The content of its file.
            name: Its name in messages.

        Raises:
            InputError: If it is not an index of this version.
        """
        pa, parquet = _arrow()
        try:
            table: Any = parquet.read_table(pa.BufferReader(content))
            meta = json.loads((table.schema.metadata or {})[_META])
            if meta["version"] != _VERSION:
                raise ValueError(f"its version is {meta['version']}, not {_VERSION}")
            columns = {name: table[name].to_numpy() for name in _COLUMNS}
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise InputError(f"{name!r} is not an index of records ({error}). Make it with: mgem data index") from error
        problems = {place: (reason, message) for place, (reason, message) in meta["problems"]}
        return cls(tuple((file, size) for file, size in meta["files"]), **columns, problems=problems)


def _arrow() -> tuple[Any, Any]:
    with explain_missing("An index of records"):
        import pyarrow
        import pyarrow.parquet

    return pyarrow, pyarrow.parquet
