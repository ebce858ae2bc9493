"""Storages: this machine's files, fsspec's memory, and S3 as moto plays it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError, StorageError
from mgem_agent.recipes.data.shards.pack import index_folder, pack_records
from mgem_agent.recipes.data.shards.storage import Folder
from mgem_agent.recipes.data.shards.tar_shards import ShardedRecords


def check_folder(address: str, records_file: Path, records: list[Any], tmp_path: Path) -> None:
    pack_records(records_file, str(tmp_path / "here"), shard_records=3)
    report = pack_records(records_file, address, shard_records=3)
    assert (report.num_records, report.num_shards) == (5, 3)
    assert pack_records(records_file, address, shard_records=3) == report
    here, there = ShardedRecords(str(tmp_path / "here")), ShardedRecords(address)
    order = [4, 0, 1, 3, 2]
    assert there.read(order) == here.read(order)
    assert index_folder(address).start.tolist() == here.index.start.tolist()  # type: ignore[union-attr]
    folder = Folder(address)
    assert folder.names(".tar") == ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    folder.remove("shard-000001.tar")
    assert not folder.exists("shard-000001.tar")
    with pytest.raises(StorageError, match=r"cannot be read: FileNotFoundError: .*Check the address, the keys"):
        there.read([0, 3])
    with pytest.raises(InputError, match=r"none' has no index\.parquet"):
        ShardedRecords(f"{address}/none")


def test_an_address_of_fsspec_is_a_folder(records_file: Path, records: list[Any], tmp_path: Path) -> None:
    check_folder(f"memory://{tmp_path.name}/packed", records_file, records, tmp_path)


def test_s3_is_a_folder(s3: str, records_file: Path, records: list[Any], tmp_path: Path) -> None:
    check_folder(f"{s3}/packed", records_file, records, tmp_path)


def test_an_unknown_scheme_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="The address 'nowhere://a' cannot be used: Protocol not known: nowhere"):
        Folder("nowhere://a")
    import fsspec.core

    def missing(path: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"'s3://a' needs the package 's3fs'. Run: .*'mgem-agent\[s3\]'"):
        Folder("s3://a")


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot be written: .*Check the path"),
        Folder(tmp_path / "file").write("x") as path,
    ):
        path.write_text("")
