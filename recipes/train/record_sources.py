"""Opening the records that a source of a configuration names, by the kind of its path."""

from __future__ import annotations

from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.shards.index import INDEX_FILE
from mgem_agent.recipes.data.shards.storage import Folder
from mgem_agent.recipes.data.shards.tar_shards import ShardedRecords
from mgem_agent.recipes.train.records import RecordFile, RecordSource
from mgem_agent.remote_files import is_address

__all__ = ["has_records", "open_records"]

_FILES = (".json", ".jsonl")


def open_records(path: str, images: str | None = None) -> RecordSource:
    """Open records.

    Args:
        path: A `.json` list, `.jsonl` lines, or a folder of shards or its address.
        images: Folder of the pictures of a file; None for the folder of the file. Shards hold their pictures.

    Raises:
        InputError: If the path is none of these, or cannot be read.
        StorageError: If a storage cannot be read.
    """
    if is_address(path):
        if Path(path).suffix in (*_FILES, ".parquet"):
            raise InputError(
                f"The data {path!r} are a file at an address. Copy it to this machine, and pack it with its pictures "
                "into shards: mgem data pack FILE ADDRESS"
            )
        return ShardedRecords(path)
    place = Path(path)
    if place.suffix == ".parquet" or (place.is_dir() and not (place / INDEX_FILE).is_file() and _is_parquet(place)):
        raise InputError(
            f"The data {path!r} are Parquet, whose rows cannot be read one by one. Pack them first: mgem data pack "
            f"{path} FOLDER"
        )
    return ShardedRecords(path) if place.is_dir() else RecordFile(place, images)


def has_records(path: str) -> bool:
    """Return whether there is something to open; for an address, whether it has an index."""
    if is_address(path):
        return Folder(path).exists(INDEX_FILE)
    return Path(path).exists()


def _is_parquet(folder: Path) -> bool:
    return any(folder.glob("*.parquet")) and not any(folder.glob("*.tar"))
