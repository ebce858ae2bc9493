from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgem_agent.errors import InputError, ToolError
from mgem_agent.scale.batch_manifest import BatchManifest
from mgem_agent.scale.batch_row import BatchItem, BatchRow


def row_of(item: BatchItem, **fields: object) -> BatchRow:
    return BatchRow(item.key, item.fingerprint, **fields)  # type: ignore[arg-type]


def test_a_row_counts_for_the_same_work_only(tmp_path: Path) -> None:
    item, file = BatchItem("fox", {"prompt": "a fox"}), tmp_path / "fox.png"
    file.touch()
    with BatchManifest(tmp_path) as manifest:
        manifest.write(row_of(item, files=(str(file),)))
    with BatchManifest(tmp_path) as manifest:
        row = manifest.done(item)
        assert row is not None and row.files == (str(file),)
        assert manifest.done(BatchItem("fox", {"prompt": "a red fox"})) is None
        assert manifest.done(BatchItem("hen", {"prompt": "a fox"})) is None
        file.unlink()
        assert manifest.done(item) is None
        manifest.write(row_of(item, status="failed"))
        assert manifest.done(item) is None


def test_a_cut_line_is_removed_and_the_last_row_counts(tmp_path: Path) -> None:
    item = BatchItem("fox", {})
    with BatchManifest(tmp_path) as manifest:
        manifest.write(row_of(item, status="failed"))
        manifest.write(row_of(item))
        assert len(manifest.path.read_text().splitlines()) == 2
    with manifest.path.open("a") as file:
        file.write('{"key": "hen", "finge')
    with BatchManifest(tmp_path) as manifest:
        assert manifest.done(item) is not None
        manifest.write(row_of(BatchItem("hen", {})))
        manifest.finish(["hen"])
        assert [json.loads(line)["key"] for line in manifest.path.read_text().splitlines()] == ["hen", "fox"]


def test_two_processes_are_not_at_one_batch(tmp_path: Path) -> None:
    with BatchManifest(tmp_path), pytest.raises(InputError, match="Another process is working on the batch"):
        BatchManifest(tmp_path).__enter__()
    with BatchManifest(tmp_path):
        pass


@pytest.mark.parametrize("line", ["no json", "[]", '{"name": 1}', '{"key": "a", "fingerprint": "b", "status": "odd"}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match="Line 1 of .*manifest.jsonl' is not the row of a batch"):
        BatchManifest(tmp_path).__enter__()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="cannot be written: .* give another folder"):
        BatchManifest(tmp_path / "file" / "folder").__enter__()
