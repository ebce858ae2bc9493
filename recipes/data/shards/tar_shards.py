"""Records in tar shards, as webdataset writes them: `KEY.json`, followed by its pictures, `KEY.jpg` or `KEY.0.jpg` ….

Members of one record follow each other, so that one read of a part of a file gets a record with its pictures, wherever
the file is. Records are found by the index, in any order.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mgem_agent.errors import InputError, StorageError
from mgem_agent.recipes.data.shards.index import INDEX_FILE, RecordIndex
from mgem_agent.recipes.data.shards.storage import Folder
from mgem_agent.recipes.train.records import BrokenRecordError, StoredRecord, repaired_dialogue, summarise

__all__ = ["ShardedRecords", "index_shard", "write_record"]

_PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "img")


class ShardedRecords:
    """The records of a folder of shards, by index.

    Args:
        path: The folder, or its address.

    Attributes:
        path: The folder.
        index: Its index.
        is_checked: True: the index says which records cannot be used.

    Raises:
        InputError: If the folder has no index, or no record.
        StorageError: If the index cannot be read.
    """

    is_checked = True

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)
        self.path = self._folder.path
        try:
            content = self._folder.read(INDEX_FILE)
        except StorageError as error:
            if self._folder.exists(INDEX_FILE):
                raise
            raise InputError(
                f"The folder {self.path!r} has no {INDEX_FILE}. Make shards of records with: mgem data pack. Index tar "
                f"shards that are already there with: mgem data index {self.path}"
            ) from error
        self.index: RecordIndex | None = RecordIndex.from_bytes(content, f"{self.path}/{INDEX_FILE}")
        self._found = self.index
        if not len(self):
            raise InputError(f"The shards {self.path!r} hold no record. Make them with: mgem data pack")

    def __len__(self) -> int:
        return len(self._found)

    def read(self, positions: Sequence[int]) -> list[StoredRecord]:
        """Return records with their pictures, in the order of the positions.

        Raises:
            StorageError: If a shard cannot be read, or is not the one that was indexed.
        """
        index = self._found
        ranges = []
        for position in positions:
            start = int(index.start[position])
            ranges.append((index.files[index.file[position]][0], start, start + int(index.length[position])))
        parts = self._folder.read_ranges(ranges)
        return [self._record(part, position) for part, position in zip(parts, positions, strict=True)]

    def _record(self, part: bytes, position: int) -> StoredRecord:
        try:
            found = next(_records(io.BytesIO(part)), None)
        except tarfile.TarError:
            found = None
        if found is None or found.length != int(self._found.length[position]):
            name = self._found.files[self._found.file[position]][0]
            raise StorageError(
                f"The shard {f'{self.path}/{name}'!r} is not the one that was indexed: record {position} is not where "
                f"it was. Index the folder again: mgem data index {self.path}"
            )
        return found.stored


@dataclass
class _Member:
    """A record in a shard."""

    start: int
    length: int
    stored: StoredRecord


def _records(file: Any) -> Iterator[_Member]:
    """Yield the records of a shard, or of a part of one."""
    key, start, end, text, pictures = None, 0, 0, b"", list[bytes]()
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            cast(Any, tar).members.clear()  # or a large shard's would pile up
            if not member.isfile():
                continue
            name = Path(member.name)
            stem, _, suffix = name.name.partition(".")
            if (own := str(name.with_name(stem))) != key:
                if key is not None:
                    yield _Member(start, end - start, StoredRecord(text, tuple(pictures)))
                key, start, text, pictures = own, member.offset, b"", []
            content = tar.extractfile(member)
            kind = suffix.rpartition(".")[2].lower()
            if content is not None and kind == "json":
                text = content.read()
            elif content is not None and kind in _PICTURES:
                pictures.append(content.read())
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    if key is not None:
        yield _Member(start, end - start, StoredRecord(text, tuple(pictures)))


def index_shard(file: Path, name: str) -> RecordIndex:
    """Return the index of one shard. Every record is read and its form is checked; pictures are not decoded.

    Args:
        file: The shard.
        name: Its name in the index.

    Raises:
        InputError: If it is not a tar file.
    """
    rows, problems = [], {}
    try:
        with file.open("rb") as stream:
            for place, member in enumerate(_records(stream)):
                record: Any = None
                try:
                    record = member.stored.parse()
                    repaired_dialogue(record, member.stored.images)
                except BrokenRecordError as error:
                    problems[place] = (error.reason, str(error))
                num_images = len(cast(Sequence[bytes], member.stored.images))
                rows.append((0, member.start, member.length, summarise(record).num_chars, num_images))
    except tarfile.TarError as error:
        raise InputError(f"The shard {name!r} is not an uncompressed tar file: {error}. Make it anew.") from error
    return RecordIndex.from_rows([(name, file.stat().st_size)], rows, problems)


def write_record(tar: tarfile.TarFile, key: str, record: Any, pictures: Sequence[tuple[str, bytes]]) -> None:
    """Add a record to a shard. The same records make the same bytes.

    Args:
        tar: The shard.
        key: Its key, without a dot.
        record: The record.
        pictures: The ending, without a dot, and the bytes of each picture.
    """
    _add(tar, f"{key}.json", json.dumps(record, ensure_ascii=False).encode())
    for place, (ending, content) in enumerate(pictures):
        _add(tar, f"{key}.{ending}" if len(pictures) == 1 else f"{key}.{place}.{ending}", content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
