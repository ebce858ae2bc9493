"""Records in Parquet files, as the hub has them: one row a record, with the bytes of its pictures or their paths.

The columns are `conversations` (a list of `from` and `value`, or its JSON) and, for records with pictures, `image` or
`images` (a path, or `bytes` and `path`, or a list of these). Others, except `id`, are left out.

A row can only be read with its whole group of rows, so Parquet files are packed into shards before a training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mgem_agent.errors import InputError
from mgem_agent.extras import explain_missing
from mgem_agent.recipes.data.shards.index import RecordIndex
from mgem_agent.recipes.train.records import StoredRecord

__all__ = ["ParquetRecords"]

_COLUMNS = ("id", "conversations", "image", "images")


class ParquetRecords:
    """The records of Parquet files, by index.

    Args:
        path: A file, or a folder of files, which are read in the order of their names.
        images: Folder of the pictures that are given by path; None for the folder of the files.

    Attributes:
        path: The file or folder.
        index: None.
        is_checked: False.

    Raises:
        InputError: If there is no file, or one cannot be read or has no column `conversations`.
    """

    index: RecordIndex | None = None
    is_checked = False

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        with explain_missing("Reading Parquet"):
            import pyarrow as pa
            import pyarrow.parquet as parquet

        self.path = Path(path)
        self._files = sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]
        self._images = Path(images) if images is not None else self._files[0].parent if self._files else self.path
        self._groups: list[tuple[Path, int]] = []
        counts = [0]
        for file in self._files:
            try:
                meta, names = parquet.read_metadata(file), parquet.read_schema(file).names
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"The data {str(file)!r} cannot be read: {error}. Give Parquet files.") from error
            if "conversations" not in names:
                raise InputError(
                    f"The data {str(file)!r} have no column 'conversations', but {', '.join(names)}. Convert them to "
                    "records: see the data guide."
                )
            self._groups += [(file, group) for group in range(meta.num_row_groups)]
            counts += [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        self._first = np.cumsum(counts)
        if not len(self):
            raise InputError(f"The data {str(path)!r} hold no record. Give a Parquet file with records.")

    def __len__(self) -> int:
        return int(self._first[-1])

    def read(self, positions: Sequence[int]) -> list[StoredRecord]:
        """Return records, in the order of the positions; those of one group of rows are read at once."""
        found = []
        for position in positions:
            group = int(np.searchsorted(self._first, position, side="right")) - 1
            rows = _read_group(*self._groups[group])
            found.append(self._record(rows[position - int(self._first[group])]))
        return found

    def _record(self, row: Mapping[str, Any]) -> StoredRecord:
        turns = row["conversations"]
        if isinstance(turns, str):
            try:
                turns = json.loads(turns)
            except ValueError:
                return StoredRecord(turns.encode(), self._images)  # found broken when it is parsed
        if isinstance(turns, list):
            turns = [_without_nothing(turn) for turn in turns]
        record: dict[str, Any] = {"id": str(row.get("id", "")), "conversations": turns}
        named = next((row[name] for name in ("images", "image") if row.get(name) is not None), None)
        pictures = [] if named is None else named if isinstance(named, list) else [named]
        if not pictures:
            return StoredRecord(json.dumps(record).encode(), ())
        if all(isinstance(picture, str) for picture in pictures):
            record["image"] = pictures
            return StoredRecord(json.dumps(record).encode(), self._images)
        stored = tuple(self._bytes(picture) for picture in pictures)
        record["image"] = [_name(picture, place) for place, picture in enumerate(pictures)]
        return StoredRecord(json.dumps(record).encode(), tuple(content for content in stored if content is not None))

    def _bytes(self, picture: Any) -> bytes | None:
        """Return the bytes of a picture, or None if they are missing."""
        if isinstance(picture, bytes):
            return picture
        if isinstance(picture, Mapping):
            content, name = picture.get("bytes"), picture.get("path")
            if isinstance(content, bytes):
                return content
            picture = name
        if not isinstance(picture, str) or Path(picture).is_absolute() or ".." in Path(picture).parts:
            return None
        file = self._images / picture
        return file.read_bytes() if file.is_file() else None


@lru_cache(maxsize=2)
def _read_group(file: Path, group: int) -> list[dict[str, Any]]:
    import pyarrow.parquet as parquet

    opened = parquet.ParquetFile(file)
    columns = [name for name in _COLUMNS if name in opened.schema_arrow.names]
    rows: list[dict[str, Any]] = opened.read_row_group(group, columns=columns).to_pylist()
    return rows


def _name(picture: Any, place: int) -> str:
    name = picture.get("path") if isinstance(picture, Mapping) else picture
    return name if isinstance(name, str) and name else str(place)


def _without_nothing(turn: Any) -> Any:
    """Return a turn without the fields that only other turns have."""
    return {key: value for key, value in turn.items() if value is not None} if isinstance(turn, Mapping) else turn
