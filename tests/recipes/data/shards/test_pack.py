"""Packing: what is in the shards, what is left out, and that an interrupted run makes the same bytes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from mgem_agent.errors import InputError, StorageError
from mgem_agent.recipes.data.shards.pack import index_folder, pack_records
from mgem_agent.recipes.data.shards.tar_shards import ShardedRecords


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "index.parquet"}


def test_records_and_pictures_are_in_the_shards(records_file: Path, records: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done: list[tuple[int, int]] = []
    report = pack_records(
        records_file, str(out), shard_records=3, report=lambda number, total: done.append((number, total))
    )
    assert (report.num_records, report.num_images, report.num_shards) == (5, 4, 3)
    assert report.dropped == {"missing picture": 1, "malformed": 1}
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert sorted(path.name for path in out.iterdir()) == [
        "dropped.jsonl", "index.parquet", "pack.json", "shard-000000.tar", "shard-000001.tar", "shard-000002.tar",
    ]  # fmt: skip
    with tarfile.open(out / "shard-000000.tar") as tar:
        assert tar.getnames() == [
            "000000000.json", "000000000.png", "000000001.json", "000000001.0.jpg", "000000001.1.png", "000000002.json",
        ]  # fmt: skip
    packed = ShardedRecords(str(out))
    assert [stored.parse() for stored in packed.read(range(5))] == [records[place] for place in (0, 1, 2, 4, 6)]
    (two,) = packed.read([1])
    assert [Image.open(io.BytesIO(content)).format for content in two.images] == ["JPEG", "PNG"]  # type: ignore[arg-type, union-attr]
    assert packed.index is not None
    assert packed.index.num_images.tolist() == [1, 2, 0, 1, 0]
    assert packed.index.num_chars.tolist()[2] == len("Words?") + len("Only words.")
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [(record["position"], record["reason"]) for record in dropped] == [(3, "missing picture"), (5, "malformed")]


def test_an_interrupted_run_continues_to_the_same_bytes(
    records_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_records(records_file, str(tmp_path / "whole"), shard_records=2)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_records(records_file, str(tmp_path / "cut"), shard_records=2, report=stop)
    assert not (tmp_path / "cut" / "index.parquet").exists()
    written: list[str] = []
    opened = tarfile.open
    monkeypatch.setattr(
        tarfile, "open", lambda file, *args, **kw: written.append(file.name) or opened(file, *args, **kw)
    )
    pack_records(records_file, str(tmp_path / "cut"), shard_records=2)
    assert written == [".shard-000002.tar.part", ".shard-000003.tar.part"]
    assert all_bytes(tmp_path / "cut") == all_bytes(tmp_path / "whole")
    again = pack_records(records_file, str(tmp_path / "cut"), shard_records=2)
    assert again.num_records == 5 and len(written) == 2
    with pytest.raises(
        InputError, match="holds shards of other records or settings: .*'shard_records': 2.*Give another"
    ):
        pack_records(records_file, str(tmp_path / "cut"), shard_records=3)


@pytest.mark.slow
def test_several_processes_make_the_same_bytes(records_file: Path, tmp_path: Path) -> None:
    pack_records(records_file, str(tmp_path / "one"), shard_records=1)
    pack_records(records_file, str(tmp_path / "two"), shard_records=1, num_processes=2)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


def test_nothing_to_pack_is_an_error(records_file: Path, tmp_path: Path) -> None:
    broken = records_file.with_name("broken.jsonl")
    broken.write_text("{\n")
    with pytest.raises(InputError, match='No record can be packed. The first: .*"not JSON".* Check the records'):
        pack_records(broken, str(tmp_path / "out"))
    with pytest.raises(InputError, match="shard_records is 0. Give 1 or more"):
        pack_records(records_file, str(tmp_path / "out"), shard_records=0)


def test_parquet_as_the_hub_has_it_is_packed(tmp_path: Path, records_file: Path) -> None:
    png = (records_file.parent / "red.png").read_bytes()
    turns = [{"from": "human", "value": "<image>\nRed?"}, {"from": "gpt", "value": "Yes."}]
    rows = [
        {"id": "a", "conversations": turns, "image": {"bytes": png, "path": None}, "data_source": "x"},
        {"id": "b", "conversations": turns, "image": {"bytes": None, "path": "red.png"}, "data_source": "x"},
        {"id": "c", "conversations": turns, "image": {"bytes": None, "path": "/etc/hostname"}, "data_source": "x"},
        {"id": "d", "conversations": turns[::-1], "image": None, "data_source": "x"},
        {"id": "e", "conversations": [turns[0] | {"value": "Hi."}, turns[1]], "image": None, "data_source": "x"},
    ]
    folder = tmp_path / "parquet"
    folder.mkdir()
    parquet.write_table(pa.Table.from_pylist(rows[:3]), folder / "0.parquet", row_group_size=2)
    parquet.write_table(pa.Table.from_pylist(rows[3:], pa.Table.from_pylist(rows).schema), folder / "1.parquet")
    report = pack_records(folder, str(tmp_path / "out"), images=records_file.parent)
    assert report.dropped == {"missing picture": 1, "malformed": 1}
    packed = ShardedRecords(str(tmp_path / "out")).read(range(3))
    assert [stored.parse()["id"] for stored in packed] == ["a", "b", "e"]
    assert [stored.images for stored in packed] == [(png,), (png,), ()]
    parquet.write_table(pa.table({"text": ["a"]}), folder / "2.parquet")
    with pytest.raises(InputError, match="have no column 'conversations', but text"):
        pack_records(folder, str(tmp_path / "other"))


def test_shards_of_others_are_indexed(tmp_path: Path, records_file: Path) -> None:
    """As webdataset writes them: any keys and folders, a picture that the record does not name, other files."""
    png = (records_file.parent / "red.png").read_bytes()
    text = json.dumps({"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}).encode()
    long = "a" * 120
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            members = [
                ("x/k1.png", png),
                ("x/k1.json", text),
                ("x/k1.txt", b"?"),
                (f"{long}.json", text),
                ("k3.png", png),
            ]
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    with pytest.raises(InputError, match=r"has no index.parquet\. Make shards of records with: mgem data pack"):
        ShardedRecords(str(tmp_path))
    index = index_folder(str(tmp_path))
    assert index.num_images.tolist() == [1, 0, 1] * 2
    assert {place: reason for place, (reason, _) in index.problems.items()} == {2: "not JSON", 5: "not JSON"}
    records = ShardedRecords(str(tmp_path))
    assert [len(stored.images) for stored in records.read([3, 1, 0])] == [1, 0, 1]  # type: ignore[arg-type]
    assert records.read([4])[0].parse() == json.loads(text)
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[1024:])
    with pytest.raises(StorageError, match="1.tar' is not the one that was indexed: record 4"):
        records.read([4])
    (tmp_path / "1.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(InputError, match="The shard '1.tar' is not an uncompressed tar file"):
        index_folder(str(tmp_path))


def test_an_index_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no .tar file"):
        index_folder(str(tmp_path))
    (tmp_path / "index.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="is not an index of records .* Make it with: mgem data index"):
        ShardedRecords(str(tmp_path))
    with pytest.raises(StorageError, match="none' cannot be read: FileNotFoundError: .* Check the path"):
        index_folder(str(tmp_path / "none"))
