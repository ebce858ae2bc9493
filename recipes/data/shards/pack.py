"""Packing records and their pictures into shards, in several processes; an interrupted run continues.

A shard has a fixed number of records of the input, so shards are independent of each other and the same input makes the
same bytes. A shard is done when its own index is there. At the end these are joined to the folder's index.

Records that cannot be used (not JSON, malformed, a picture missing) are left out, and `dropped.jsonl` lists them.
"""

from __future__ import annotations

import json
import multiprocessing
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.shards.index import INDEX_FILE, RecordIndex, index_name
from mgem_agent.recipes.data.shards.parquet_records import ParquetRecords
from mgem_agent.recipes.data.shards.storage import Folder
from mgem_agent.recipes.data.shards.tar_shards import index_shard, write_record
from mgem_agent.recipes.train.records import (
    BrokenRecordError,
    RecordFile,
    RecordSource,
    StoredRecord,
    pictures_of,
    repaired_dialogue,
    summarise,
)
from mgem_agent.user_files import user_path

__all__ = ["DROPPED_FILE", "DroppedRecord", "PackReport", "index_folder", "pack_records"]

DROPPED_FILE = "dropped.jsonl"
_SETTINGS_FILE = "pack.json"
_VERSION = 1


@dataclass(frozen=True)
class DroppedRecord:
    """A record that was left out.

    Args:
        position: Its index in the input, from 0.
        reason: A short category, for counting.
        message: What is wrong.
    """

    position: int
    reason: str
    message: str


@dataclass
class PackReport:
    """What was packed.

    Args:
        num_records: Records in the shards.
        num_images: Their pictures.
        num_shards: The shards.
        num_bytes: Bytes of the shards.
        dropped: Number of records that were left out, by reason.
    """

    num_records: int = 0
    num_images: int = 0
    num_shards: int = 0
    num_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def pack_records(
    source: str | Path,
    out: str,
    *,
    images: str | Path | None = None,
    shard_records: int = 2000,
    num_processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> PackReport:
    """Pack records and their pictures into a folder of shards.

    Args:
        source: A `.json` list, `.jsonl` lines, a `.parquet` file or a folder of these.
        out: The folder, or its address.
        images: Folder of the pictures; None for the folder of the source.
        shard_records: Records of a shard.
        num_processes: Processes that share the work; 1 works in this one.
        report: Called with the number of shards done, and of all.

    Returns:
        What was packed, by earlier runs too.

    Raises:
        InputError: If the source cannot be read, no record of it can be used, or the folder holds other shards.
        StorageError: If a shard cannot be written.
    """
    if shard_records < 1:
        raise InputError(f"shard_records is {shard_records!r}. Give 1 or more.")
    records = _open(source, images)
    folder = Folder(out)
    _claim(folder, source, records, shard_records)
    firsts = range(0, len(records), shard_records)
    if not folder.exists(INDEX_FILE):
        done = 0
        for _ in _packed(records, out, firsts, shard_records, num_processes):
            done += 1
            report(done, len(firsts))
        _finish(folder, len(firsts))
    return _summary(folder)


def _open(source: str | Path, images: str | Path | None) -> RecordSource:
    place = user_path(source)
    if place.suffix == ".parquet" or place.is_dir():
        return ParquetRecords(place, images)
    return RecordFile(place, images)


def _claim(folder: Folder, source: str | Path, records: RecordSource, shard_records: int) -> None:
    """Note what is packed, unless the folder holds something else."""
    place = user_path(source)
    settings = {
        "source": place.name,
        "bytes": sum(file.stat().st_size for file in place.glob("*.parquet"))
        if place.is_dir()
        else place.stat().st_size,
        "records": len(records),
        "shard_records": shard_records,
        "version": _VERSION,
    }
    if folder.exists(_SETTINGS_FILE):
        before = json.loads(folder.read(_SETTINGS_FILE))
        if before != settings:
            raise InputError(
                f"The folder {folder.path!r} holds shards of other records or settings: {before}, not {settings}. Give "
                "another folder, or delete it."
            )
        return
    with folder.write(_SETTINGS_FILE) as file:
        file.write_text(json.dumps(settings), encoding="utf-8")


def _packed(
    records: RecordSource, out: str, firsts: Sequence[int], shard_records: int, num_processes: int
) -> Iterator[None]:
    """Pack all shards, and yield after each."""
    tasks = [(number, range(first, min(first + shard_records, len(records)))) for number, first in enumerate(firsts)]
    if num_processes == 1:
        for number, positions in tasks:
            _pack_shard(records, out, number, positions)
            yield
        return
    context = multiprocessing.get_context("spawn")  # the parent may have threads
    with ProcessPoolExecutor(num_processes, context, initializer=_Worker.start, initargs=(records, out)) as pool:
        waiting = [pool.submit(_Worker.pack, number, positions) for number, positions in tasks]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Worker:
    """What a process of the pool keeps."""

    records: RecordSource
    out: str

    @classmethod
    def start(cls, records: RecordSource, out: str) -> None:
        cls.records, cls.out = records, out

    @classmethod
    def pack(cls, number: int, positions: range) -> None:
        _pack_shard(cls.records, cls.out, number, positions)


def _shard_name(number: int) -> str:
    return f"shard-{number:06}.tar"


def _dropped_name(number: int) -> str:
    return f"{_shard_name(number)}.{DROPPED_FILE}"


def _pack_shard(records: RecordSource, out: str, number: int, positions: range) -> None:
    """Write a shard, then the list of what was left out, and last its index."""
    folder, name = Folder(out), _shard_name(number)
    if folder.exists(index_name(name)):
        return
    dropped, rows = [], []
    with folder.write(name) as file:
        with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as tar:
            for position in positions:
                (stored,) = records.read([position])
                start = tar.offset
                try:
                    record, pictures = _ready(stored)
                except BrokenRecordError as error:
                    dropped.append(DroppedRecord(position, error.reason, str(error)))
                    continue
                write_record(tar, f"{position:09}", record, pictures)
                rows.append((0, start, tar.offset - start, summarise(record).num_chars, len(pictures)))
        index = RecordIndex.from_rows([(name, file.stat().st_size)], rows)
    with folder.write(_dropped_name(number)) as file:
        _write_lines(file, dropped)
    with folder.write(index_name(name)) as file:
        file.write_bytes(index.to_bytes())


def _ready(stored: StoredRecord) -> tuple[Any, list[tuple[str, bytes]]]:
    """Return a record, and the ending and bytes of each of its pictures.

    Raises:
        BrokenRecordError: If it cannot be used.
    """
    record = stored.parse()
    repaired_dialogue(record, stored.images)
    pictures = pictures_of(record, stored.images)
    return record, [(_ending(picture), _content(picture)) for picture in pictures]


def _content(picture: Path | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return picture.read_bytes()
    except OSError as error:
        raise BrokenRecordError("unreadable picture", f"{str(picture)!r} cannot be read: {error.strerror}") from error


def _ending(picture: Path | bytes) -> str:
    """Return the ending of a picture's file; by its first bytes, if it has no file."""
    if isinstance(picture, Path):
        return picture.suffix[1:].lower() or "img"
    starts = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif"}
    return next((ending for start, ending in starts.items() if picture.startswith(start)), "img")


def _write_lines(file: Path, dropped: Iterable[DroppedRecord]) -> None:
    file.write_text("".join(json.dumps(asdict(record)) + "\n" for record in dropped), encoding="utf-8")


def _finish(folder: Folder, num_shards: int) -> None:
    """Join the indices and the lists of the shards, and delete them."""
    names = [_shard_name(number) for number in range(num_shards)]
    parts = [RecordIndex.from_bytes(folder.read(index_name(name)), name) for name in names]
    index = RecordIndex.joined(parts)
    with folder.write(DROPPED_FILE) as file:
        file.write_bytes(b"".join(folder.read(_dropped_name(number)) for number in range(num_shards)))
    if not len(index):
        first = folder.read(DROPPED_FILE).partition(b"\n")[0].decode()
        raise InputError(
            f"No record can be packed. The first: {first}. Check the records and their folder of pictures."
        )
    with folder.write(INDEX_FILE) as file:
        file.write_bytes(index.to_bytes())
    for number, name in enumerate(names):
        folder.remove(index_name(name))
        folder.remove(_dropped_name(number))


def _summary(folder: Folder) -> PackReport:
    index = RecordIndex.from_bytes(folder.read(INDEX_FILE), folder.path)
    dropped = [json.loads(line) for line in folder.read(DROPPED_FILE).splitlines()]
    return PackReport(
        len(index),
        int(index.num_images.sum()),
        len(index.files),
        sum(size for _, size in index.files),
        Counter(record["reason"] for record in dropped),
    )


def index_folder(path: str) -> RecordIndex:
    """Index records that are already there, and write the index next to them.

    Args:
        path: A folder of tar shards or its address; or a `.json` list or `.jsonl` lines.

    Raises:
        InputError: If there is nothing to index.
        StorageError: If a file cannot be read or written.
    """
    if Path(path).suffix in (".json", ".jsonl"):
        file = user_path(path)
        index = RecordFile(file, use_index=False).make_index()
        with Folder(file.parent).write(index_name(file.name)) as written:
            written.write_bytes(index.to_bytes())
        return index
    folder = Folder(path)
    names = folder.names(".tar")
    if not names:
        raise InputError(f"The folder {path!r} has no .tar file. Give a folder of shards, or a .jsonl or .json file.")
    index = RecordIndex.joined([_index_one(folder, name) for name in names])
    with folder.write(INDEX_FILE) as written:
        written.write_bytes(index.to_bytes())
    return index


def _index_one(folder: Folder, name: str) -> RecordIndex:
    if not folder.is_remote:
        return index_shard(Path(folder.path, name), name)
    with tempfile.TemporaryDirectory(prefix="mgem-shard-") as here:
        folder.fetch(name, Path(here, name))
        return index_shard(Path(here, name), name)
